// What the app's pages do, with the real supabase-js, against an edge function behind which the project stands.
// Prints one JSON object. Run by test_edge.py with EDGE_URL, SUPABASE_ANON_KEY and what the pages know of a user.
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

const { EDGE_URL: url, SUPABASE_ANON_KEY: key, USER_ID: userId, PROMPT_ID: promptId, SESSION: session } = process.env
const options = { realtime: { transport: ws }, auth: { persistSession: false, autoRefreshToken: false } }
const supabase = createClient(url, key, options)
const out = {}

/** The contacts page: a POST with nothing but Content-Type. */
async function batch(body, path = '/batch-call') {
  const response = await fetch(url + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  })
  const found = await response.json()
  return { status: response.status, cors: response.headers.get('access-control-allow-origin'), ...found }
}

/** What the test looks at of an answer. */
const gist = ({ status, cors, campaign_id, repeated, error, summary: s, results }) => ({
  status,
  cors,
  campaign: campaign_id,
  repeated,
  error,
  counts: s && [s.total, s.successful, s.failed],
  rows: results?.map((result) => result.queueId),
})

const campaign = async (name) =>
  (await supabase.from('campaigns').insert({
    user_id: userId,
    campaign_name: name,
    prompt_id: promptId,
    status: 'in_progress',
    total_numbers: 3,
  }).select('id').single()).data.id

const phoneNumbers = ['011-1000 0001', '0111000 0002', '12']
const page = (campaignId) => ({
  userId,
  campaignId,
  promptId,
  phoneNumbers,
  phoneNumbersWithNames: phoneNumbers.map((phone_number, n) => ({ phone_number, customer_name: n ? null : 'Aminah' })),
  retryEnabled: false,
  retryIntervalMinutes: 30,
  maxRetryAttempts: 3,
})

const first = await campaign('October')
out.campaign = first
// The browser sends the identical POST twice by itself.
const [one, two] = await Promise.all([batch(page(first)), batch(page(first))])
out.twice = [one, two].sort((a, b) => a.repeated - b.repeated).map(gist)
// The page gave up, and its user made a second campaign of the same numbers.
out.second = gist(await batch(page(await campaign('October again'))))

// The Failed Calls page: functions.invoke with the session token, and no user.
const { data, error } = await supabase.functions.invoke('batch-call', {
  headers: { Authorization: `Bearer ${session}` },
  body: { phoneNumbers: ['01110000003'], campaignName: 'Retry Call - 25/11/2026 10:00', promptId: null },
})
out.retry = { ...gist(data), error: error?.message ?? null }
const stranger = await supabase.functions.invoke('batch-call', {
  headers: { Authorization: 'Bearer nobody' },
  body: { phoneNumbers: ['01110000003'], campaignName: 'Retry Call - 25/11/2026 10:01', promptId: null },
})
out.stranger = { kind: stranger.error.name, status: stranger.error.context.status, ...(await stranger.error.context.json()) }

// batch-call-v2's body.
out.v2 = gist(await batch({
  userId,
  campaignName: 'November',
  phoneNumbers: ['01110000004'],
  customerName: 'Cik',
  idsale: 'S1',
  retryEnabled: true,
  retryIntervalMinutes: 5,
  maxRetryAttempts: 2,
}, '/batch-call-v2'))

// Refused: nothing of ours stays behind.
out.poor = gist(await batch({ userId, campaignName: 'Too many', phoneNumbers: Array.from({ length: 60 }, (_, n) => `0111000${1000 + n}`) }))
out.nobody = gist(await batch({ userId: '00000000-0000-4000-8000-00000000dead', phoneNumbers: ['01110000001'] }))
out.none = gist(await batch({ userId, promptId, phoneNumbers: [] }))
out.broken = gist(await batch('not an object'))

// A browser asks first, and bare.
const preflight = await fetch(`${url}/functions/v1/batch-call`, { method: 'OPTIONS' })
out.preflight = [preflight.status, preflight.headers.get('access-control-allow-headers'), await preflight.text()]

// Everything else is passed on: a read through the same host, and a live WebSocket.
out.rows = (await supabase.from('campaigns').select('campaign_name').order('created_at')).data.map((row) => row.campaign_name)
out.joined = await new Promise((resolve) => supabase.channel('room').subscribe(resolve))
console.log(JSON.stringify(out))
await supabase.removeAllChannels()
process.exit(0)
