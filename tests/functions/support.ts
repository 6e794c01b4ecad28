/** A PostgREST that answers as it is told, and the environment that leads to it. */

// deno-lint-ignore-file no-console -- Tests look at what is logged.

import assert from "node:assert/strict";
import { CORS } from "../../supabase/functions/_shared/batch_call/http.ts";

export const USER = "00000000-0000-4000-8000-000000000001";
export const PROMPT = "00000000-0000-4000-8000-000000000003";
export const CAMPAIGN = "00000000-0000-4000-8000-000000000002";

const NAMES = [
  "SUPABASE_URL",
  "SUPABASE_SERVICE_ROLE_KEY",
  "SUPABASE_SECRET_KEY",
  "BATCH_CALL_SECRET_KEY",
  "BATCH_CALL_AUTH",
  "BATCH_CALL_ORIGINS",
  "BATCH_CALL_NUMBERS_PER_REQUEST",
  "BATCH_CALL_REQUESTS_PER_HOUR",
  "BATCH_CALL_NUMBERS_PER_HOUR",
  "AI_UPSTREAM",
];

/** Exactly these of our settings for the time of `work`. */
export async function withEnv<T>(set: Record<string, string>, work: () => Promise<T>): Promise<T> {
  for (const name of NAMES) Deno.env.delete(name);
  for (const [name, value] of Object.entries(set)) Deno.env.set(name, value);
  try {
    return await work();
  } finally {
    for (const name of NAMES) Deno.env.delete(name);
  }
}

/** What `work` wrote to the log. */
export async function logged(work: () => Promise<unknown>): Promise<string> {
  const lines: string[] = [];
  const { error, warn } = console;
  console.error = console.warn = (line: string): number => lines.push(line);
  try {
    await work();
  } finally {
    console.error = error;
    console.warn = warn;
  }
  return lines.join("\n");
}

export interface Asked {
  path: string;
  headers: Headers;
  request: Record<string, unknown>;
}

/** A server for the time of `work`, on a port of its own. */
export async function serving<T>(handler: Deno.ServeHandler, work: (url: string) => Promise<T>): Promise<T> {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  try {
    return await work(`http://127.0.0.1:${server.addr.port}`);
  } finally {
    await server.shutdown();
  }
}

/** The function's settings lead to a database that answers `reply`; gives what it was asked. */
export async function withDatabase(
  reply: () => Response | Promise<Response>,
  env: Record<string, string>,
  work: () => Promise<void>,
): Promise<Asked[]> {
  const asked: Asked[] = [];
  await serving(async (req) => {
    const { p_request } = await req.json();
    asked.push({ path: new URL(req.url).pathname, headers: req.headers, request: p_request });
    return await reply();
  }, (url) => withEnv({ SUPABASE_URL: `${url}/`, SUPABASE_SERVICE_ROLE_KEY: "the-key", ...env }, work));
  return asked;
}

export function post(body: unknown, headers: Record<string, string> = {}): Request {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return new Request("http://host/batch-call", {
    method: "POST",
    body: text,
    headers: { "content-type": "application/json", ...headers },
  });
}

/** The body of an answer with this status, with CORS as every answer has it. */
export async function body(response: Response, status: number): Promise<Record<string, unknown>> {
  const text = await response.text();
  assert.equal(response.status, status, text);
  for (const [name, value] of Object.entries(CORS)) assert.equal(response.headers.get(name), value);
  assert.equal(response.headers.get("access-control-allow-credentials"), null);
  return JSON.parse(text);
}
