"""What runs inside Redis, so that nobody comes between looking and counting. Numbers come back as integers."""

from typing import Final

# KEYS: the counter. ARGV: cost, window in ms. -> {consumed, ms left}
# The value is what was consumed and the key is APISIX's, so gateways of both kinds share the counters of a group.
FIXED: Final = """
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return {tonumber(ARGV[1]), tonumber(ARGV[2])}
end
return {redis.call('INCRBY', KEYS[1], ARGV[1]), left}
"""

# KEYS: the current window's counter, the previous one's. ARGV: cost, limit, window in ms, ms left of it.
# -> {counted before, counted in the previous window, 1 when within}; decides as gw.plugins.counting.sliding.is_within
SLIDING: Final = """
local current = tonumber(redis.call('GET', KEYS[1]) or '0')
local previous = tonumber(redis.call('GET', KEYS[2]) or '0')
local limit = tonumber(ARGV[2])
local within = 0
if math.min(previous, limit) * tonumber(ARGV[4]) / tonumber(ARGV[3]) + current < limit then
    redis.call('INCRBY', KEYS[1], ARGV[1])
    redis.call('PEXPIRE', KEYS[1], 2 * ARGV[3])
    within = 1
end
return {current, previous, within}
"""
