-- One request per line of a file of user ids, built once and then sent in turn; the totals as one line of JSON at the end.
local requests = {}
local at = 0

function init(args)
  local body_file = io.open(args[2], "rb")
  local body = body_file:read("*a")
  body_file:close()
  for user in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", args[3], {
      ["Host"] = wrk.headers["Host"], ["Content-Type"] = "application/json", ["x-user-id"] = user }, body)
  end
end

function request()
  at = at + 1
  if at > #requests then at = 1 end
  return requests[at]
end

function done(summary, latency)
  io.write(string.format(
    'bench {"requests":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.errors.connect,
    summary.errors.read, summary.errors.write, summary.errors.timeout, summary.errors.status))
end
