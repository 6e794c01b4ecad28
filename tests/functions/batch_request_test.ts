import assert from "node:assert/strict";
import { type BatchRequest, batchRequest, type Sender } from "../../supabase/functions/_shared/batch_call/request.ts";
import { Refusal } from "../../supabase/functions/_shared/batch_call/http.ts";
import { CAMPAIGN, PROMPT, USER } from "./support.ts";

const LIMITS = { numbers_per_request: 7, requests_per_hour: null, numbers_per_hour: null };
const SENDER: Sender = { auth: "compat", token: null, origin: "https://app.example.com", limits: LIMITS };

function read(fields: unknown, sender: Partial<Sender> = {}): BatchRequest {
  return batchRequest(JSON.stringify(fields), { ...SENDER, ...sender });
}

Deno.test("the contacts page's body, all eight keys", () => {
  const request = read({
    userId: USER,
    campaignId: CAMPAIGN,
    promptId: PROMPT,
    phoneNumbers: ["0123456700", " 012-345 6701 "],
    phoneNumbersWithNames: [
      { phone_number: "0123456700", customer_name: "Aminah" },
      { phone_number: "012-345 6701", customer_name: null },
    ],
    retryEnabled: false,
    retryIntervalMinutes: 30,
    maxRetryAttempts: 3,
  });
  assert.deepEqual(request, {
    source: "page",
    auth: "compat",
    user_id: USER,
    session_token: null,
    campaign_id: CAMPAIGN,
    campaign_name: null,
    prompt_id: PROMPT,
    items: [{ number: "0123456700", name: "Aminah" }, { number: "012-345 6701", name: null }],
    customer_name: null,
    idsale: null,
    retry: { enabled: false, interval_minutes: 30, max_attempts: 3 },
    limits: LIMITS,
    origin: "https://app.example.com",
  });
});

Deno.test("batch-call-v2's body", () => {
  const request = read({
    userId: USER,
    campaignName: "October",
    phoneNumbers: ["0123456700"],
    customerName: "Cik",
    idsale: 4711,
    retryEnabled: true,
    retryIntervalMinutes: 60,
    maxRetryAttempts: 2,
  });
  assert.equal(request.campaign_name, "October");
  assert.equal(request.campaign_id, null);
  assert.equal(request.prompt_id, null);
  assert.equal(request.customer_name, "Cik");
  assert.equal(request.idsale, "4711");
  assert.deepEqual(request.retry, { enabled: true, interval_minutes: 60, max_attempts: 2 });
});

Deno.test("a session token without a user is the Failed Calls page's wish; with one it is a page's", () => {
  const fields = { phoneNumbers: ["0123456700"], campaignName: "Retry Call - 25/11/2026 10:00", promptId: null };
  assert.equal(read(fields, { token: "abc" }).source, "retry");
  assert.equal(read(fields, { token: "abc" }).session_token, "abc");
  assert.equal(read({ ...fields, userId: USER }, { token: "abc" }).source, "page");
  assert.equal(read(fields).source, "page");
});

Deno.test("names go by place, else by the same text", () => {
  const names = [
    { phone_number: "0123456701", customer_name: "B" },
    { phone_number: "0123456700", customer_name: "A" },
    { phone_number: "0123456700", customer_name: "A2" },
  ];
  const request = read({
    userId: USER,
    phoneNumbers: ["0123456700", "0123456701", "0123456700", "0123456709"],
    phoneNumbersWithNames: names,
  });
  assert.deepEqual(request.items.map((item) => item.name), ["A", "B", "A2", null]);
  const only = read({ userId: USER, phoneNumbersWithNames: names });
  assert.deepEqual(only.items.map((item) => item.number), ["0123456701", "0123456700", "0123456700"]);
});

Deno.test("what is no number stays in its place, to be refused alone", () => {
  const sent = [60123456700, null, { a: 1 }, [60123456700], 60123456700.5, -60123456700, 1e21, "", "x".repeat(9999)];
  const request = read({ userId: USER, phoneNumbers: [...sent, "\ud800\u00001"] });
  assert.deepEqual(request.items.map((item) => item.number), [
    "60123456700",
    "no text: null",
    'no text: {"a":1}',
    "no text: [60123456700]",
    "no text: 60123456700.5",
    "no text: -60123456700",
    "no text: 1e+21",
    "",
    "x".repeat(500),
    "\ufffd1",
  ]);
});

Deno.test("texts hold nothing that PostgreSQL cannot store, and empty ones are none", () => {
  const request = read({
    userId: USER,
    campaignId: " ",
    campaignName: "a\u0000b",
    customerName: "\udfff",
    phoneNumbers: ["1"],
  });
  assert.equal(request.campaign_id, null);
  assert.equal(request.campaign_name, "ab");
  assert.equal(request.customer_name, "\ufffd");
});

for (
  const [what, text, words] of [
    ["no JSON", "{", /is not JSON/],
    ["an empty body", "", /is not JSON/],
    ["a list", "[]", /is not an object/],
    ["null", "null", /is not an object/],
    ["numbers that are no list", '{"phoneNumbers": "0123456700"}', /phoneNumbers must be a list/],
    ["names that are no list", '{"phoneNumbersWithNames": {}}', /phoneNumbersWithNames must be a list/],
    ["a user that is no text", '{"userId": {"id": 1}}', /userId must be a text/],
  ] as const
) {
  Deno.test(`refused: ${what}`, () => {
    assert.throws(
      () => batchRequest(text, SENDER),
      (error) => error instanceof Refusal && error.status === 400 && words.test(error.message),
    );
  });
}
