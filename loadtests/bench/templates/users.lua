-- One request per line of a file of user ids, built once and then sent in turn; the totals as one line of JSON at the end.
-- With a fourth argument "unique", every request gets a traceparent and an x-request-id of its own on the way.
local requests = {}
local unique = false
local at = 0

function init(args)
  local body_file = io.open(args[2], "rb")
  local body = body_file:read("*a")
  body_file:close()
  unique = args[4] == "unique"
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 1000000)
  for user in io.lines(args[1]) do
    local headers = { ["Host"] = wrk.headers["Host"], ["Content-Type"] = "application/json", ["x-user-id"] = user }
    local whole = wrk.format("POST", args[3], headers, body)
    if unique then
      local line_end = whole:find("\r\n", 1, true)
      requests[#requests + 1] = { whole:sub(1, line_end + 1), whole:sub(line_end + 2) }
    else
      requests[#requests + 1] = whole
    end
  end
end

local function hex8() return string.format("%08x", math.random(0, 4294967295)) end

function request()
  at = at + 1
  if at > #requests then at = 1 end
  if not unique then return requests[at] end
  local one, a, b, c, d = requests[at], hex8(), hex8(), hex8(), hex8()
  return one[1] .. "traceparent: 00-" .. a .. b .. c .. d .. "-" .. d .. a .. "-01\r\nx-request-id: " ..
    a .. "-" .. b:sub(1, 4) .. "-4" .. b:sub(6) .. "-a" .. c:sub(2, 4) .. "-" .. c:sub(5) .. d .. "\r\n" .. one[2]
end

function done(summary, latency)
  io.write(string.format(
    'bench {"requests":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.errors.connect,
    summary.errors.read, summary.errors.write, summary.errors.timeout, summary.errors.status))
end
