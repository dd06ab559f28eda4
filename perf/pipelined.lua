-- For wrk: sixteen requests in one write, and the next sixteen when all of them are answered.
local depth = 16
local batch

function init()
  batch = string.rep(wrk.format(), depth)
end

function request()
  return batch
end
