--- PyTorch's side of a work: a process of pytorch.py, talked to over its standard input and a FIFO.

local fail = require "advrt.support.fail"
local json = require "dkjson"
local system = require "advrt.core.system"
local work = require "work"

local HERE = arg[0]:match("^(.*/)") or "./"

local peer = {}

local Peer = {}
Peer.__index = Peer
Peer.__close = function(self)
    self.to:close()
    if self.from then self.from:close() end
end

function peer.quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

--- One answer of PyTorch's process; a failure where it has ended instead.
function Peer:read()
    local answer = json.decode(self.from:read("l") or "")
    if type(answer) ~= "table" then fail("%s: PyTorch's process gave no answer", self.name) end
    return answer
end

function Peer:ask(...)
    self.to:write(table.concat({...}, " "), "\n")
    self.to:flush()
    return self:read()
end

--- Starts pytorch.py on a work in some of its modes. spec.task: what the task holds besides. The
-- weights and tensors are in spec.scratch. Fields: modes, skipped, version, threads, difference;
-- or missing, why it has not the net at all.
function peer.start(spec, modes)
    local fifo, path = spec.scratch .. "/answers", spec.scratch .. "/task.json"
    os.remove(fifo)
    if not os.execute("mkfifo " .. peer.quote(fifo)) then
        fail("cannot make a FIFO in %s", spec.scratch)
    end
    local task = {
        net = spec.net, what = spec.what, modes = modes, threads = system.options.threads,
        device = system.options.device, precision = spec.precision or system.options.precision,
        sgd = work.SGD, attack = work.ATTACK, tensors = spec.scratch .. "/tensors.safetensors",
        weights = spec.scratch .. "/weights.safetensors",
    }
    for k, v in pairs(spec.task) do task[k] = v end
    assert(system.write(path, json.encode(task)))
    -- advrt bounds its own threads' spinning by this variable; PyTorch runs as it does by itself.
    local env = os.getenv("GOMP_SPINCOUNT") == "1000" and "env -u GOMP_SPINCOUNT " or ""
    local to = assert(io.popen(("exec %s%s %s %s >%s"):format(env, peer.quote(spec.python),
        peer.quote(HERE .. "pytorch.py"), peer.quote(path), peer.quote(fifo)), "w"))
    local self = setmetatable({to = to, from = assert(io.open(fifo)), name = spec.name}, Peer)
    for k, v in pairs(self:read()) do self[k] = v end
    return self
end

return peer
