--- A measurement in a process of its own: this script anew, with `--child FILE`, where FILE holds what
-- is asked for.

local fail = require "advrt.support.fail"
local json = require "dkjson"
local peer = require "peer"
local system = require "advrt.core.system"

local child = {}

--- Runs this script anew on a spec, with spec.threads threads where it says so; returns what it found.
-- spec.scratch: a folder for the question and the answer; spec.name: what messages call it; spec.quiet:
-- whether what it says is kept from the terminal.
function child.ask(spec)
    local question, answer = spec.scratch .. "/spec.json", spec.scratch .. "/result.json"
    os.remove(answer)
    assert(system.write(question, json.encode(spec)))
    local o = system.options
    local _, kind, status = os.execute((
        "%s --device %s --threads %d --plan %s --precision %s %s --child %s%s")
        :format(peer.quote(o.executable), o.device, spec.threads or o.threads, o.plan, o.precision,
            peer.quote(arg[0]), peer.quote(question), spec.quiet and " >/dev/null 2>&1" or ""))
    if kind == "signal" and status == 2 or status == 130 then fail.interrupted() end
    local file = io.open(answer)
    if status ~= 0 or not file then fail("%s could not be measured", spec.name) end
    local text = file:read("a")
    file:close()
    return (json.decode(text))
end

local function answer(how, question)
    local file <close> = assert(io.open(question))
    local spec = json.decode(file:read("a"))
    assert(system.write(spec.scratch .. "/result.json", json.encode(how[spec.measure](spec))))
end

--- Where this process is one that was asked: answers by the function how[spec.measure], and true.
function child.answers(how)
    if arg[1] ~= "--child" then return false end
    local ok, problem = pcall(answer, how, arg[2])
    if not ok then
        -- The parent, which is interrupted too, is the one to say so.
        if fail.is(problem) and problem.status == 130 then os.exit(130) end
        error(problem, 0)
    end
    return true
end

return child
