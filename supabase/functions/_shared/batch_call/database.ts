/** `call_batch_v1` over PostgREST: one request, whatever the number of items. */

import { type BatchReply, isBatchReply } from "./reply.ts";
import type { BatchRequest } from "./request.ts";
import type { Settings } from "./settings.ts";

/** The page gives up after 60 s; it shall hear from us before. */
const WAIT_MS = 50_000;

/** No answer, or one that says that the database is away. Sending the same again rings nobody twice. */
export class DatabaseAway extends Error {}

/** The database refuses what we ask: a wrong key, or install.sql was not run. For the operator's log. */
export class DatabaseRefused extends Error {}

export async function callBatch(to: Settings, request: BatchRequest, wait = WAIT_MS): Promise<BatchReply> {
  let response: Response;
  let body: string;
  try {
    response = await fetch(`${to.url}/rest/v1/rpc/call_batch_v1`, {
      method: "POST",
      headers: { apikey: to.key, authorization: `Bearer ${to.key}`, "content-type": "application/json" },
      body: JSON.stringify({ p_request: request }),
      signal: AbortSignal.timeout(wait),
    });
    body = await response.text();
  } catch (error) {
    throw new DatabaseAway(error instanceof Error ? error.message : String(error));
  }
  if (!response.ok) {
    const away = response.status >= 500 || response.status === 429 || response.status === 408;
    throw new (away ? DatabaseAway : DatabaseRefused)(`HTTP ${response.status}: ${body.slice(0, 500)}`);
  }
  const reply = parsed(body);
  if (!isBatchReply(reply)) throw new DatabaseRefused("call_batch_v1 gave an answer of another shape");
  return reply;
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}
