/** What the app's pages and other clients send, turned into one request of `call_batch_v1`. Pure. */

import { Refusal } from "./http.ts";
import type { Auth, Limits } from "./settings.ts";

export interface Item {
  readonly number: string;
  readonly name: string | null;
}

/** `p_request` of the SQL function; docs/batch.md tells what it makes of each key. */
export interface BatchRequest {
  readonly source: "page" | "retry";
  readonly auth: Auth;
  readonly user_id: string | null;
  readonly session_token: string | null;
  readonly campaign_id: string | null;
  readonly campaign_name: string | null;
  readonly prompt_id: string | null;
  readonly items: readonly Item[];
  readonly customer_name: string | null;
  readonly idsale: string | null;
  readonly retry: {
    readonly enabled: boolean;
    readonly interval_minutes: number | null;
    readonly max_attempts: number | null;
  };
  readonly limits: Limits;
  readonly origin: string | null;
}

/** What stands around the body. */
export interface Sender {
  readonly auth: Auth;
  readonly token: string | null;
  readonly origin: string | null;
  readonly limits: Limits;
}

type Fields = Readonly<Record<string, unknown>>;

/** Longer than any name or number; a number that was cut is refused all the same. */
const TEXT_LENGTH = 500;

/** Reads both bodies: the page's (campaignId) and batch-call-v2's (campaignName); a key may be missing or null. */
export function batchRequest(body: string, sender: Sender): BatchRequest {
  const fields = object(body);
  const userId = text(fields, "userId");
  return {
    // Only the Failed Calls page and the scheduler of retries send a session token and no user.
    source: userId === null && sender.token !== null ? "retry" : "page",
    auth: sender.auth,
    user_id: userId,
    session_token: sender.token,
    campaign_id: text(fields, "campaignId"),
    campaign_name: text(fields, "campaignName"),
    prompt_id: text(fields, "promptId"),
    items: items(fields),
    customer_name: text(fields, "customerName"),
    idsale: text(fields, "idsale"),
    retry: {
      enabled: fields.retryEnabled === true,
      interval_minutes: number(fields.retryIntervalMinutes),
      max_attempts: number(fields.maxRetryAttempts),
    },
    limits: sender.limits,
    origin: sender.origin,
  };
}

function object(body: string): Fields {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    throw new Refusal(400, "The request is not understood: its body is not JSON.");
  }
  if (!isObject(parsed)) throw new Refusal(400, "The request is not understood: its body is not an object.");
  return parsed;
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A text or null; an empty one counts as null. */
function text(fields: Fields, key: string): string | null {
  const value = fields[key] ?? null;
  if (value === null) return null;
  if (typeof value !== "string" && typeof value !== "number") {
    throw new Refusal(400, `The request is not understood: ${key} must be a text.`);
  }
  return storable(value) || null;
}

/** What PostgreSQL can store: no NUL, no half of a surrogate pair. */
function storable(value: string | number): string {
  return String(value).toWellFormed().replaceAll("\0", "").trim().slice(0, TEXT_LENGTH).toWellFormed();
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function list(fields: Fields, key: string): readonly unknown[] {
  const value = fields[key] ?? [];
  if (!Array.isArray(value)) throw new Refusal(400, `The request is not understood: ${key} must be a list.`);
  return value;
}

/** The numbers in the order in which they were sent, each with the name that stands beside the same text. */
function items(fields: Fields): Item[] {
  const named = list(fields, "phoneNumbersWithNames").filter(isObject).map((entry) => ({
    number: numberText(entry.phone_number),
    name: typeof entry.customer_name === "string" ? storable(entry.customer_name) || null : null,
  }));
  const numbers = list(fields, "phoneNumbers").map(numberText);
  if (numbers.length === 0) return named;
  const names = new Map<string, string>();
  for (const { number, name } of named) {
    if (name !== null && !names.has(number)) names.set(number, name);
  }
  return numbers.map((number, place) => {
    const beside = named[place];
    return { number, name: (beside?.number === number ? beside.name : null) ?? names.get(number) ?? null };
  });
}

/**
 * Anything that is no number becomes a text that is refused as one, with the rest of the request done. So does a JSON
 * number that is not whole: "60123456700.5" would be read as another person's number.
 */
function numberText(value: unknown): string {
  const good = typeof value === "string" || (Number.isSafeInteger(value) && Number(value) >= 0);
  return storable(good ? String(value) : `no text: ${JSON.stringify(value) ?? typeof value}`);
}
