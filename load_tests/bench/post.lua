-- Posts the bodies of a file in turn and prints one line that machines read: "RESULT name=value …".
-- Arguments: the file (each body behind its length in decimal and a line feed), then headers as Name:value.

local threads = {}
local requests = {}
local n = 0

answered = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(arguments)
  local headers = { ["Content-Type"] = "application/json" }
  for i = 2, #arguments do
    local name, value = arguments[i]:match("^([^:]+):%s*(.*)$")
    headers[name] = value
  end
  local file = assert(io.open(arguments[1], "rb"))
  local length = file:read("*n")
  while length do
    file:read(1)
    requests[#requests + 1] = wrk.format("POST", nil, headers, file:read(length))
    length = file:read("*n")
  end
  file:close()
end

function request()
  n = n % #requests + 1
  return requests[n]
end

function response(status)
  answered[status] = (answered[status] or 0) + 1
end

function done(summary, latency)
  local errors = summary.errors
  local line = string.format("RESULT duration_us=%d p50_us=%d p99_us=%d max_us=%d connect=%d read=%d write=%d timeout=%d",
    summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.timeout)
  local statuses = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("answered")) do
      statuses[status] = (statuses[status] or 0) + count
    end
  end
  for status, count in pairs(statuses) do
    line = line .. string.format(" status_%d=%d", status, count)
  end
  io.write(line .. "\n")
end
