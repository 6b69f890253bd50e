"""What Redis runs: the two algorithms of `rates`, and places with leases, each in one step, by the clock of Redis."""

from __future__ import annotations

from typing import Final

from ekiben.guards.rates import EPOCH_S

TAKE: Final = f"""
-- KEYS: a counter each. ARGV: the cost, then for each counter its kind, and unit_s and full_s (bucket) or limit and window_s (window).
local time = redis.call('TIME')
local now = (time[1] - {EPOCH_S:.0f}) + time[2] / 1000000
local cost = tonumber(ARGV[1])
local all, answers, states, ages = true, {{}}, {{}}, {{}}

local function number(text)
  local value = tonumber(text)
  if value and value == value and value >= 0 and value < 1e15 then return value end
  return 0
end

local function bucket(key, unit_s, full_s)
  local arrival = number(redis.call('GET', key))
  local most = now + full_s
  if arrival < now or arrival > most + full_s then arrival = now end
  local new = arrival + cost * unit_s
  if new > most + 1e-6 then
    return false, math.max(0, most - arrival) / unit_s, arrival - now, new - most
  end
  return true, math.max(0, (most - new) / unit_s), new - now, 0, string.format('%.9f', new), new - now
end

local function window(key, limit, window_s)
  local text = redis.call('GET', key) or '0 0 0'
  local current, former, used_at = string.match(text, '^(%S+) (%S+) (%S+)$')
  current, former, used_at = number(current), number(former), number(used_at)
  if used_at > now + window_s then
    current, former, used_at = 0, 0, now
  end
  local steps = math.floor(now / window_s) - math.floor(used_at / window_s)
  if steps <= 0 then
    used_at = math.max(now, used_at)
  else
    former = steps == 1 and current or 0
    current, used_at = 0, now
  end
  local start = math.floor(used_at / window_s) * window_s
  local passed = math.max(0, now - start) / window_s
  local used = former * (1 - passed) + current
  local function reset()
    if current > 0 then return start - now + 2 * window_s end
    return former > 0 and start - now + window_s or 0
  end
  if used + cost <= limit * (1 + 1e-9) then
    current = current + cost
    local state = string.format('%.6f %.6f %.9f', current, former, used_at)
    return true, math.max(0, limit - used - cost), reset(), 0, state, reset()
  end
  local room, wait = limit - cost, 0
  if current <= room and former > 0 then
    wait = math.max(0, (1 - (room - current) / former - passed) * window_s)
  else
    wait = (1 - passed + (current > 0 and math.max(0, 1 - room / current) or 0)) * window_s
  end
  return false, math.max(0, limit - used), reset(), wait
end

for n, key in ipairs(KEYS) do
  local kind, a, b = ARGV[3 * n - 1], tonumber(ARGV[3 * n]), tonumber(ARGV[3 * n + 1])
  local fits, left, reset_s, wait_s, state, age_s = (kind == 'bucket' and bucket or window)(key, a, b)
  all = all and fits
  states[n], ages[n] = state, age_s
  answers[n] = {{fits and 1 or 0, string.format('%.6f', left), string.format('%.6f', reset_s), string.format('%.6f', wait_s)}}
end
if all then
  for n, key in ipairs(KEYS) do
    redis.call('SET', key, states[n], 'PX', math.ceil(ages[n] * 1000) + 1000)
  end
end
return answers
"""

HOLD: Final = """
-- KEYS: a sorted set of places by when their lease ends. ARGV: how many there are, the place, seconds of its lease.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[3] * 1000))
return 1
"""

RENEW: Final = """
-- KEYS: sorted sets of places. ARGV: seconds of a lease, then the place in each.
local time = redis.call('TIME')
local ends = time[1] + time[2] / 1000000 + ARGV[1]
for n, key in ipairs(KEYS) do
  redis.call('ZADD', key, 'XX', ends, ARGV[n + 1])
  redis.call('PEXPIRE', key, math.ceil(ARGV[1] * 1000))
end
"""
