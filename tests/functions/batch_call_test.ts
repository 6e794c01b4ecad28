import assert from "node:assert/strict";
import { handleBatchCall } from "../../supabase/functions/_shared/batch_call/mod.ts";
import { callBatch, DatabaseAway } from "../../supabase/functions/_shared/batch_call/database.ts";
import { batchRequest } from "../../supabase/functions/_shared/batch_call/request.ts";
import { BadSettings, settings } from "../../supabase/functions/_shared/batch_call/settings.ts";
import { body, logged, post, serving, USER, withDatabase, withEnv } from "./support.ts";

const GOOD = {
  ok: true,
  http_status: 200,
  counts: { total: 1, queued: 1, returned: 0, refused: 0, duplicates: 0 },
  items: [{ number: "0123456700", result: "queued", row_id: 1, reason: null, of: null }],
};
const ASK = { userId: USER, phoneNumbers: ["0123456700"] };
const good = (): Response => Response.json(GOOD);

Deno.test("one call of the SQL function with the secret key", async () => {
  const limits = { BATCH_CALL_NUMBERS_PER_REQUEST: "10000", BATCH_CALL_REQUESTS_PER_HOUR: "60" };
  const [asked, ...more] = await withDatabase(good, limits, async () => {
    const found = await body(await handleBatchCall(post(ASK, { authorization: "Bearer tok-1" })), 200);
    assert.equal(found.success, true);
  });
  assert.deepEqual(more, []);
  assert.equal(asked?.path, "/rest/v1/rpc/call_batch_v1");
  assert.equal(asked.headers.get("apikey"), "the-key");
  assert.equal(asked.headers.get("authorization"), "Bearer the-key");
  assert.equal(asked.request.session_token, "tok-1");
  assert.equal(asked.request.auth, "compat");
  assert.deepEqual(asked.request.limits, {
    numbers_per_request: 10000,
    requests_per_hour: 60,
    numbers_per_hour: null,
  });
});

Deno.test("OPTIONS: 200, empty, the four headers, without any setting", async () => {
  const response = await withEnv({}, () => handleBatchCall(new Request("http://h/batch-call", { method: "OPTIONS" })));
  assert.equal(response.status, 200);
  assert.equal(await response.text(), "");
  assert.equal(response.headers.get("access-control-allow-origin"), "*");
  assert.equal(
    response.headers.get("access-control-allow-headers"),
    "authorization, x-client-info, apikey, content-type",
  );
  assert.equal(response.headers.get("access-control-allow-methods"), null);
});

Deno.test("only POST", async () => {
  await withEnv({}, async () => {
    for (const method of ["GET", "PUT", "DELETE"]) {
      assert.ok((await body(await handleBatchCall(new Request("http://h/batch-call", { method })), 405)).error);
    }
  });
});

Deno.test("session mode is told to the SQL function", async () => {
  const asked = await withDatabase(good, { BATCH_CALL_AUTH: "session" }, async () => {
    await body(await handleBatchCall(post(ASK)), 200);
  });
  assert.equal(asked[0]?.request.auth, "session");
});

Deno.test("allowed origins: others are refused, and what names none must show a session", async () => {
  const env = { BATCH_CALL_ORIGINS: "https://App.example.com/, http://localhost:8080" };
  const asked = await withDatabase(good, env, async () => {
    await body(await handleBatchCall(post(ASK, { origin: "https://app.example.com" })), 200);
    await body(await handleBatchCall(post(ASK, { origin: "http://localhost:8080" })), 200);
    await body(await handleBatchCall(post(ASK)), 200);
    for (const origin of ["https://evil.example.com", "null", "https://app.example.com.evil.example"]) {
      assert.equal(
        (await body(await handleBatchCall(post(ASK, { origin })), 403)).error,
        "This page may not start calls.",
      );
    }
  });
  assert.deepEqual(asked.map(({ request }) => request.auth), ["compat", "compat", "session"]);
  assert.equal(asked[0]?.request.origin, "https://app.example.com");
});

Deno.test("a body that is too large is refused without being read, with and without its length", async () => {
  let sent = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller): void {
      sent += 65536;
      controller.enqueue(new Uint8Array(65536).fill(32));
    },
  });
  const asked = await withDatabase(good, {}, async () => {
    const streamed = new Request("http://h/batch-call", { method: "POST", body: endless });
    assert.match(String((await body(await handleBatchCall(streamed), 413)).error), /at most 4096 KiB/);
    await body(await handleBatchCall(post(" ".repeat(4 * 1024 * 1024 + 1))), 413);
  });
  assert.ok(sent < 5 * 1024 * 1024, `${sent}`);
  assert.deepEqual(asked, []);
});

Deno.test("10,000 numbers with long names fit", async () => {
  const numbers = Array.from({ length: 10000 }, (_, n) => `+60 12-345 ${String(n).padStart(4, "0")}`);
  const names = numbers.map((number) => ({
    phone_number: number,
    customer_name: "Nur Aminah binti Abdullah ".repeat(6),
  }));
  const asked = await withDatabase(good, {}, async () => {
    await body(await handleBatchCall(post({ ...ASK, phoneNumbers: numbers, phoneNumbersWithNames: names })), 200);
  });
  assert.equal((asked[0]?.request.items as unknown[]).length, 10000);
});

const INTERNAL = "relation call_queue of server db.internal the-key +60123456700";

for (
  const [what, status, reply] of [
    [
      "an error of PostgreSQL",
      500,
      (): Response => Response.json({ code: "42P01", message: INTERNAL }, { status: 404 }),
    ],
    ["a wrong key", 500, (): Response => Response.json({ message: INTERNAL }, { status: 401 })],
    ["a database that is away", 503, (): Response => Response.json({ message: INTERNAL }, { status: 503 })],
    ["an answer of another shape", 500, (): Response => Response.json({ message: INTERNAL })],
    ["an answer that is no JSON", 500, (): Response => new Response(`<html>${INTERNAL}`)],
  ] as const
) {
  Deno.test(`nothing internal reaches the user: ${what}`, async () => {
    const lines = await logged(() =>
      withDatabase(reply, {}, async () => {
        const found = await body(await handleBatchCall(post(ASK)), status);
        assert.ok(!/relation|internal|the-key|call_queue|PGRST|HTTP/.test(JSON.stringify(found)), `${found.error}`);
        assert.equal(found.success, false);
      })
    );
    // The operator finds it by the reference that the user names.
    assert.match(lines, /"event":"batch.failed","reference":"[0-9a-f]{8}","kind":"Database(Away|Refused)"/);
  });
}

Deno.test("nobody listens at SUPABASE_URL: 503", async () => {
  const gone = await serving(good, (url) => Promise.resolve(url));
  const env = { SUPABASE_URL: gone, SUPABASE_SERVICE_ROLE_KEY: "the-key" };
  const lines = await logged(() =>
    withEnv(env, async () => {
      const found = await body(await handleBatchCall(post(ASK)), 503);
      assert.match(String(found.error), /nobody is called twice/);
      assert.ok(!String(found.error).includes("127.0.0.1"));
    })
  );
  assert.match(lines, /DatabaseAway/);
});

Deno.test("a database that does not answer is given up before the page gives us up", async () => {
  const held = Promise.withResolvers<Response>();
  await withDatabase(() => held.promise, {}, async () => {
    const config = settings();
    const request = batchRequest(JSON.stringify(ASK), { ...config, token: null, origin: null });
    await assert.rejects(callBatch(config, request, 50), DatabaseAway);
    held.resolve(good());
  });
});

Deno.test("not set up: 500 for the user, the names for the operator", async () => {
  const lines = await logged(() =>
    withEnv({}, async () => {
      const found = await body(await handleBatchCall(post(ASK)), 500);
      assert.ok(!String(found.error).includes("SUPABASE"));
    })
  );
  assert.match(lines, /Not set: SUPABASE_URL, BATCH_CALL_SECRET_KEY or SUPABASE_SECRET_KEY or/);
});

Deno.test("settings that are no settings are refused", () => {
  const base = { SUPABASE_URL: "https://x.example.com", SUPABASE_SERVICE_ROLE_KEY: "k" };
  const read = (more: Record<string, string>) =>
    settings((name) => ({ ...base, ...more } as Record<string, string>)[name]);
  assert.throws(() => read({ BATCH_CALL_AUTH: "sesion" }), BadSettings);
  assert.throws(() => read({ BATCH_CALL_NUMBERS_PER_HOUR: "many" }), BadSettings);
  assert.throws(() => read({ BATCH_CALL_NUMBERS_PER_HOUR: "-1" }), BadSettings);
  assert.equal(read({}).auth, "compat");
  assert.equal(read({}).origins, null);
  assert.equal(read({ SUPABASE_SECRET_KEY: "new" }).key, "new");
  assert.equal(read({ BATCH_CALL_SECRET_KEY: "own", SUPABASE_SECRET_KEY: "new" }).key, "own");
});
