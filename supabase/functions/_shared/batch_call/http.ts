/** What every answer has in common: CORS, JSON, and errors as the app's pages read them. */

/**
 * What the pages' browsers need, on every answer: functions.invoke sends all four headers. POST needs no
 * Allow-Methods; there are no cookies, so no credentials.
 */
export const CORS: Readonly<Record<string, string>> = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Headers": "authorization, x-client-info, apikey, content-type",
};

/** The answer to any OPTIONS. */
export function preflight(): Response {
  return new Response(null, { status: 200, headers: CORS });
}

export function json(status: number, body: unknown): Response {
  return Response.json(body, { status, headers: CORS });
}

/** A request that is not done. `message` is shown to the app's user; it must not hold anything internal. */
export class Refusal extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
    this.name = "Refusal";
  }
}

/**
 * The answer to a request that was not done: never a 2xx, since the page shows each of those as a success. The page
 * puts `error` into a dialog as HTML.
 */
export function refused(status: number, message: string, more: Record<string, unknown> = {}): Response {
  const failed = status >= 400 && status <= 599 ? status : 500;
  return json(failed, { ...more, success: false, error: escaped(message) });
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** The body as text, or a Refusal as soon as it is longer than `most` bytes, whatever its Content-Length says. */
export async function boundedText(req: Request, most: number): Promise<string> {
  const tooLong = new Refusal(413, `The request is too large: at most ${Math.floor(most / 1024)} KiB are taken.`);
  if (Number(req.headers.get("content-length") ?? 0) > most) throw tooLong;
  if (!req.body) return "";
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  // Leaving the loop by the error also cancels the stream: the rest is not read.
  for await (const chunk of req.body) {
    length += chunk.byteLength;
    if (length > most) throw tooLong;
    chunks.push(chunk);
  }
  return await new Blob(chunks).text();
}
