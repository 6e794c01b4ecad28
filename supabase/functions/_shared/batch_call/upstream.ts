/** The host as a whole: /batch-call is ours, every other path and every WebSocket goes to AI_UPSTREAM. */

import { handleBatchCall } from "./handler.ts";
import { preflight, refused } from "./http.ts";
import { problem } from "./log.ts";

/** Supabase's edge runtime leaves the function's name in the path. */
const OURS = /^(?:\/functions\/v1)?\/batch-call(?:-v2)?\/?$/;

/** Headers of one connection, not of the request (RFC 9110, 7.6.1). */
const HOP = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/** Marks what we passed on: an AI_UPSTREAM that is ourselves would go round for ever. */
const VIA = "x-batch-call-via";

/** An AI that does not open its WebSocket by then is away; a callee is waiting. */
const OPEN_MS = 10_000;

/** Most that may wait for a slow reader: over four minutes of 16 kHz audio, which nobody would hear any more. */
const BEHIND_BYTES = 8 * 1024 * 1024;

export async function serve(req: Request): Promise<Response> {
  const socket = req.headers.get("upgrade")?.toLowerCase() === "websocket";
  if (!socket) {
    if (req.method === "OPTIONS") return preflight();
    if (OURS.test(new URL(req.url).pathname)) return await handleBatchCall(req);
  }
  const to = target(req);
  if (to === null) return refused(404, "There is nothing at this address.");
  if (req.headers.has(VIA) || to.host === new URL(req.url).host) {
    problem("upstream.loop", { hint: "AI_UPSTREAM leads back here" });
    return refused(508, "The AI handler is not set up.");
  }
  try {
    return socket ? await joined(req, to) : await passed(req, to);
  } catch (error) {
    problem("upstream.away", { path: to.pathname, error: error instanceof Error ? error.message : String(error) });
    return refused(502, "The AI handler does not answer.");
  }
}

/** The same path and query at AI_UPSTREAM (https://host, wss://host or with a path before); null without one. */
function target(req: Request): URL | null {
  const upstream = Deno.env.get("AI_UPSTREAM")?.trim();
  if (!upstream) return null;
  const here = new URL(req.url);
  try {
    const to = new URL(upstream);
    to.protocol = to.protocol.replace(/^ws/, "http");
    to.pathname = to.pathname.replace(/\/+$/, "") + here.pathname;
    to.search = here.search;
    return to;
  } catch {
    problem("upstream.settings", { hint: "AI_UPSTREAM is no address" });
    return null;
  }
}

async function passed(req: Request, to: URL): Promise<Response> {
  const headers = endToEnd(req.headers);
  headers.delete("host");
  headers.set(VIA, "1");
  headers.set("x-forwarded-host", new URL(req.url).host);
  // The body is passed on as it comes; fetch would unpack it and leave the header that says packed.
  headers.set("accept-encoding", "identity");
  const response = await fetch(to, { method: req.method, headers, body: req.body, redirect: "manual" });
  return new Response(response.body, { status: response.status, headers: endToEnd(response.headers) });
}

function endToEnd(headers: Headers): Headers {
  const kept = new Headers(headers);
  const named = (headers.get("connection") ?? "").split(",").map((name) => name.trim()).filter((name) => name !== "");
  for (const name of [...HOP, ...named]) kept.delete(name);
  return kept;
}

/** Opens the AI's side first, so that an AI that is away is an HTTP error and not a call that falls silent. */
async function joined(req: Request, to: URL): Promise<Response> {
  to.protocol = to.protocol.replace(/^http/, "ws");
  const wanted = (req.headers.get("sec-websocket-protocol") ?? "").split(",").map((name) => name.trim());
  const ai = new WebSocket(to, wanted.filter((name) => name !== ""));
  ai.binaryType = "arraybuffer";
  // What the AI does before the caller's side is open waits for it: what it says, and that it has ended already.
  const early: MessageEvent[] = [];
  const wait = (event: MessageEvent): number => early.push(event);
  const ended = new Promise<CloseEvent>((resolve) => ai.addEventListener("close", resolve));
  ai.addEventListener("message", wait);
  await opened(ai);
  const { socket: caller, response } = upgraded(req, ai);
  caller.binaryType = "arraybuffer";
  caller.addEventListener("open", () => {
    ai.removeEventListener("message", wait);
    for (const event of early) pass(event, caller, ai);
    ai.addEventListener("message", (event) => pass(event, caller, ai));
    ended.then(({ code, reason }) => shut(caller, code, reason));
  });
  caller.addEventListener("message", (event) => pass(event, ai, caller));
  caller.addEventListener("close", ({ code, reason }) => shut(ai, code, reason));
  // An error is always followed by a close; without a listener it would end the process.
  for (const side of [ai, caller]) side.addEventListener("error", (event) => event.preventDefault());
  return response;
}

function upgraded(req: Request, ai: WebSocket): Deno.WebSocketUpgrade {
  try {
    return Deno.upgradeWebSocket(req, ai.protocol ? { protocol: ai.protocol } : {});
  } catch (error) {
    ai.close();
    throw error;
  }
}

function opened(ai: WebSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      reject(new Error("the WebSocket did not open in time"));
      ai.close();
    }, OPEN_MS);
    ai.addEventListener("open", () => {
      clearTimeout(late);
      resolve();
    }, { once: true });
    ai.addEventListener("error", (event) => {
      event.preventDefault();
      clearTimeout(late);
      reject(new Error(event instanceof ErrorEvent ? event.message : "the WebSocket was refused"));
    }, { once: true });
  });
}

function pass(event: MessageEvent, to: WebSocket, from: WebSocket): void {
  if (to.readyState !== WebSocket.OPEN) return;
  if (to.bufferedAmount > BEHIND_BYTES) {
    problem("upstream.behind", { bytes: to.bufferedAmount });
    shut(from, 4013, "the other side does not read");
    shut(to, 4013, "too far behind");
    return;
  }
  to.send(event.data);
}

/** Ends the other side as this one ended, as far as a program may say so: of the reserved codes only 1000. */
function shut(side: WebSocket, code: number, reason: string): void {
  if (side.readyState >= WebSocket.CLOSING) return;
  if (code === 1005) return side.close();
  if (code === 1000 || (code >= 3000 && code <= 4999)) return side.close(code, clipped(reason));
  // 1001 (going away), 1006 (broken off), 1011 (error)… become 4001, 4006, 4011.
  side.close(4000 + (code % 1000), clipped(reason));
}

/** A reason has at most 123 bytes (RFC 6455, 5.5). */
function clipped(reason: string): string {
  let text = reason.slice(0, 123);
  while (new TextEncoder().encode(text).byteLength > 123) text = text.slice(0, -1);
  return text;
}
