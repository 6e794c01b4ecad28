/** The environment, read for each request: a changed secret needs no new deployment. */

export type Auth = "compat" | "session";

export interface Settings {
  /** The project, without a slash at the end. */
  readonly url: string;
  /** Opens every table; never leaves this process but towards `url`. */
  readonly key: string;
  readonly auth: Auth;
  /** Lower-case origins of pages that may ask; null means all. */
  readonly origins: readonly string[] | null;
  readonly limits: Limits;
}

/** Null leaves a limit to the database's own default. */
export interface Limits {
  readonly numbers_per_request: number | null;
  readonly requests_per_hour: number | null;
  readonly numbers_per_hour: number | null;
}

/** The deployment is not set up; the message is for the operator's log, not for the app's user. */
export class BadSettings extends Error {}

type Env = (name: string) => string | undefined;

/** The first that is set. Supabase sets the last one itself, and lets nobody add names that begin with SUPABASE_. */
const KEYS = ["BATCH_CALL_SECRET_KEY", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"];

export function settings(env: Env = (name) => Deno.env.get(name)): Settings {
  const get = (name: string): string => (env(name) ?? "").trim();
  const url = get("SUPABASE_URL").replace(/\/+$/, "");
  const key = KEYS.map(get).find((found) => found !== "") ?? "";
  const missing = [...(url ? [] : ["SUPABASE_URL"]), ...(key ? [] : [KEYS.join(" or ")])];
  if (missing.length > 0) throw new BadSettings(`Not set: ${missing.join(", ")}`);
  // As today is the default: the contacts page sends no token and could call nobody with `session`.
  const auth = get("BATCH_CALL_AUTH") || "compat";
  if (auth !== "compat" && auth !== "session") throw new BadSettings("BATCH_CALL_AUTH must be compat or session");
  const origins = get("BATCH_CALL_ORIGINS").split(",").map(origin).filter((found) => found !== "");
  return {
    url,
    key,
    auth,
    origins: origins.length > 0 ? origins : null,
    limits: {
      numbers_per_request: limit(get, "BATCH_CALL_NUMBERS_PER_REQUEST"),
      requests_per_hour: limit(get, "BATCH_CALL_REQUESTS_PER_HOUR"),
      numbers_per_hour: limit(get, "BATCH_CALL_NUMBERS_PER_HOUR"),
    },
  };
}

/** As browsers write it: lower case, nothing behind the port. */
export function origin(text: string): string {
  return text.trim().toLowerCase().replace(/\/+$/, "");
}

function limit(get: (name: string) => string, name: string): number | null {
  const text = get(name);
  if (text === "") return null;
  // Taking a slip of the pen for "no limit" would be dear.
  if (!/^\d{1,9}$/.test(text)) throw new BadSettings(`${name} must be a whole number`);
  return Number(text);
}
