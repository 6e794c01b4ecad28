/** One request, from its first byte to the answer. */

import { answer } from "./reply.ts";
import { batchRequest } from "./request.ts";
import { callBatch, DatabaseAway } from "./database.ts";
import { boundedText, preflight, Refusal, refused } from "./http.ts";
import { problem, warnOnce } from "./log.ts";
import { type Auth, origin, type Settings, settings } from "./settings.ts";

/** 10,000 numbers, each with a long name and both lists, are about 2 MB. */
const BODY_BYTES = 4 * 1024 * 1024;

const COMPAT_WARNING =
  "BATCH_CALL_AUTH is compat: whoever reaches this address can call at the cost of any user whose " +
  "id he knows. Limits per user hold; BATCH_CALL_ORIGINS keeps other web pages out, not programs. " +
  "BATCH_CALL_AUTH=session needs a page that sends its session token.";

/** Answers OPTIONS and POST; every answer has the CORS headers, and no failure is a 2xx. Never throws. */
export async function handleBatchCall(req: Request): Promise<Response> {
  if (req.method === "OPTIONS") return preflight();
  try {
    if (req.method !== "POST") throw new Refusal(405, "Only POST is answered here.");
    return await handled(req, settings());
  } catch (error) {
    if (error instanceof Refusal) return refused(error.status, error.message);
    return failed(error);
  }
}

async function handled(req: Request, config: Settings): Promise<Response> {
  warn(config);
  const from = req.headers.get("origin");
  const sender = {
    auth: authFor(from, config),
    token: bearer(req.headers.get("authorization")),
    origin: from,
    limits: config.limits,
  };
  const request = batchRequest(await boundedText(req, BODY_BYTES), sender);
  return answer(await callBatch(config, request));
}

function warn(config: Settings): void {
  if (config.auth === "compat") warnOnce("batch.compat", COMPAT_WARNING);
  if (config.origins === null) {
    warnOnce("batch.origins", "BATCH_CALL_ORIGINS is not set: any web page may send requests here.");
  }
}

/** Where only certain pages may ask, what is no page (it names no origin) shows a session. */
function authFor(from: string | null, config: Settings): Auth {
  if (config.origins === null) return config.auth;
  if (from === null) return "session";
  if (!config.origins.includes(origin(from))) throw new Refusal(403, "This page may not start calls.");
  return config.auth;
}

/** The token as it is: the SQL function knows which are sessions, and an API key or any other counts for nothing. */
function bearer(header: string | null): string | null {
  const token = /^bearer\s+(\S{1,4096})$/i.exec(header?.trim() ?? "")?.[1];
  return token ?? null;
}

/** What went wrong stands in the log, under a reference that the user can name. */
function failed(error: unknown): Response {
  const reference = crypto.randomUUID().slice(0, 8);
  const away = error instanceof DatabaseAway;
  problem("batch.failed", {
    reference,
    kind: error instanceof Error ? error.constructor.name : typeof error,
    error: error instanceof Error ? error.message : String(error),
  });
  return away
    ? refused(503, `The call queue does not answer. Please send it again: nobody is called twice. (${reference})`)
    : refused(500, `The calls could not be queued, and nobody is called. Please tell the operator: ${reference}`);
}
