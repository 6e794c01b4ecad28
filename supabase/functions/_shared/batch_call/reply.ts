/** What `call_batch_v1` answered, turned into what the app's pages read. Pure. */

import { json, refused } from "./http.ts";

export interface BatchReply {
  readonly ok: boolean;
  readonly http_status: number;
  readonly code: string | null;
  readonly error: string | null;
  readonly repeated: boolean | null;
  readonly batch_id: string | null;
  readonly campaign_id: string | null;
  readonly balance: number | null;
  readonly counts: Counts | null;
  readonly items: readonly ReplyItem[];
}

interface Counts {
  readonly total: number;
  readonly queued: number;
  readonly returned: number;
  readonly refused: number;
  readonly duplicates: number;
}

interface ReplyItem {
  readonly number: string | null;
  readonly result: "queued" | "returned" | "refused" | "duplicate";
  readonly row_id: number | null;
  readonly reason: string | null;
  readonly of: number | null;
}

/** What the page reckons with when it compares a batch with the balance. */
const MINUTES_PER_NUMBER = 2;

const NONE: Counts = { total: 0, queued: 0, returned: 0, refused: 0, duplicates: 0 };

/** Whether this has the shape that a reply must have; what is not known is then null. */
export function isBatchReply(value: unknown): value is BatchReply {
  if (typeof value !== "object" || value === null) return false;
  const reply = value as Partial<Record<keyof BatchReply, unknown>>;
  return typeof reply.ok === "boolean" && typeof reply.http_status === "number" && Array.isArray(reply.items);
}

/** The answer in both shapes: the page's `summary.successful`, and batch-call-v2's `summary.successful_calls`. */
export function answer(reply: BatchReply): Response {
  const counts = reply.counts ?? NONE;
  const successful = counts.queued + counts.returned;
  const body = {
    campaign_id: reply.campaign_id,
    batch_id: reply.batch_id,
    repeated: reply.repeated === true,
    summary: {
      total: counts.total,
      successful,
      failed: counts.refused,
      duplicates: counts.duplicates,
      total_provided: counts.total,
      valid_numbers: successful,
      invalid_numbers: counts.refused,
      successful_calls: successful,
      failed_calls: counts.refused,
      // Both in minutes: it is in minutes that the balance is kept and checked.
      estimated_cost: MINUTES_PER_NUMBER * counts.queued,
      current_balance: reply.balance,
    },
    results: reply.items.map(result),
    invalid_numbers: reply.items.filter((item) => item.result === "refused").map((item) => item.number),
  };
  if (!reply.ok || successful === 0) {
    return refused(reply.ok ? 422 : reply.http_status, reply.error ?? "No number could be queued.", {
      ...body,
      code: reply.code,
    });
  }
  return json(200, { success: true, message: message(reply.repeated === true, counts), ...body });
}

function result(item: ReplyItem): Record<string, unknown> {
  const known = { phoneNumber: item.number, result: item.result, queueId: item.row_id };
  if (item.result === "refused") return { success: false, ...known, error: item.reason };
  // The id of a call is made when its row is claimed for dialing.
  return { success: true, ...known, callId: null, ...(item.result === "duplicate" ? { duplicateOf: item.of } : {}) };
}

function message(repeated: boolean, counts: Counts): string {
  const parts = [
    repeated ? "This request had been taken before" : "",
    `${counts.queued} queued`,
    counts.returned > 0 ? `${counts.returned} there already` : "",
    counts.refused > 0 ? `${counts.refused} refused` : "",
    counts.duplicates > 0 ? `${counts.duplicates} double` : "",
  ];
  return parts.filter((part) => part !== "").join(", ");
}
