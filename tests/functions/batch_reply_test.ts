import assert from "node:assert/strict";
import { answer, type BatchReply, isBatchReply } from "../../supabase/functions/_shared/batch_call/reply.ts";
import { body, CAMPAIGN } from "./support.ts";

const REPLY: BatchReply = {
  ok: true,
  http_status: 200,
  code: null,
  error: null,
  repeated: false,
  batch_id: "b",
  campaign_id: CAMPAIGN,
  balance: 10.5,
  counts: { total: 4, queued: 1, returned: 1, refused: 1, duplicates: 1 },
  items: [
    { number: "012-345 6700", result: "queued", row_id: 41, reason: null, of: null },
    { number: "012-345 6701", result: "returned", row_id: 17, reason: null, of: null },
    { number: "12", result: "refused", row_id: 42, reason: "the phone number is too short", of: null },
    { number: "+60123456700", result: "duplicate", row_id: 41, reason: null, of: 0 },
  ],
};

Deno.test("both shapes: the page's and batch-call-v2's", async () => {
  assert.deepEqual(await body(answer(REPLY), 200), {
    success: true,
    message: "1 queued, 1 there already, 1 refused, 1 double",
    campaign_id: CAMPAIGN,
    batch_id: "b",
    repeated: false,
    summary: {
      total: 4,
      successful: 2,
      failed: 1,
      duplicates: 1,
      total_provided: 4,
      valid_numbers: 2,
      invalid_numbers: 1,
      successful_calls: 2,
      failed_calls: 1,
      estimated_cost: 2,
      current_balance: 10.5,
    },
    results: [
      { success: true, phoneNumber: "012-345 6700", result: "queued", queueId: 41, callId: null },
      { success: true, phoneNumber: "012-345 6701", result: "returned", queueId: 17, callId: null },
      {
        success: false,
        phoneNumber: "12",
        result: "refused",
        queueId: 42,
        error: "the phone number is too short",
      },
      {
        success: true,
        phoneNumber: "+60123456700",
        result: "duplicate",
        queueId: 41,
        callId: null,
        duplicateOf: 0,
      },
    ],
    invalid_numbers: ["12"],
  });
});

Deno.test("a repeat is a success that says so", async () => {
  const counts = { total: 2, queued: 0, returned: 2, refused: 0, duplicates: 0 };
  const found = await body(answer({ ...REPLY, repeated: true, counts, items: [] }), 200);
  assert.equal(found.repeated, true);
  assert.equal(found.message, "This request had been taken before, 0 queued, 2 there already");
});

Deno.test("the words by which the page opens its top-up dialog come through", async () => {
  const error = "Trial balance insufficient: 10.00 minutes left, 24 needed for 12 numbers.";
  const refusal = { ...REPLY, ok: false, http_status: 402, code: "balance", error, counts: null, items: [] };
  const found = await body(answer(refusal), 402);
  assert.equal(found.error, error);
  assert.equal(found.success, false);
  assert.equal(found.code, "balance");
});

Deno.test("a failure is never a 2xx, whatever the database says", async () => {
  const none = { total: 1, queued: 0, returned: 0, refused: 1, duplicates: 0 };
  assert.ok((await body(answer({ ...REPLY, ok: false, http_status: 200, error: "no" }), 500)).error);
  assert.ok((await body(answer({ ...REPLY, ok: false, http_status: 302, error: null }), 500)).error);
  assert.ok((await body(answer({ ...REPLY, ok: true, counts: none }), 422)).error);
  assert.ok((await body(answer({ ...REPLY, ok: true, counts: null }), 422)).error);
});

Deno.test("a refused request still tells the reason of each number", async () => {
  const found = await body(
    answer({
      ...REPLY,
      ok: false,
      http_status: 422,
      code: "nothing_queued",
      error: "No number could be queued: the phone number is <too> short",
      counts: { total: 1, queued: 0, returned: 0, refused: 1, duplicates: 0 },
      items: REPLY.items.slice(2, 3),
    }),
    422,
  );
  // The page puts it into a dialog as HTML.
  assert.equal(found.error, "No number could be queued: the phone number is &lt;too&gt; short");
  assert.deepEqual(found.invalid_numbers, ["12"]);
});

Deno.test("another shape is no reply", () => {
  assert.ok(isBatchReply(REPLY));
  for (const other of [null, 1, [], {}, { ok: true }, { ...REPLY, items: null }, { ...REPLY, ok: "yes" }]) {
    assert.ok(!isBatchReply(other));
  }
});
