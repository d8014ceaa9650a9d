--- run.json: what was run, with what, on what, and when.

local fail = require "advrt.fail"
local json = require "advrt.json"
local system = require "advrt.core.system"

local run_json = {}

local function sha256(path)
    if not path then return json.null end
    local sum, message = system.sha256(path)
    if not sum then fail("%s", message) end
    return sum
end

local function utc(time) return os.date("!%Y-%m-%dT%H:%M:%SZ", time) end

--- A list that is written as a JSON array even where it is empty, of numbers or names.
local function array(list) return setmetatable(table.move(list, 1, #list, 1, {}),
    {__jsontype = "array"}) end

--- The text of a finished run (see Run in advrt.experiment): options as used, in the order in which
-- --help lists them; null stands for what was not given and has no default.
function run_json.text(run)
    local used, order = {}, {}
    for i, name in ipairs(run.options) do
        local key = name:gsub("-", "_")
        local value = run.o[key]
        if type(value) == "table" then value = array(value) end
        order[i], used[key] = key, value == nil and json.null or value
    end
    local about = system.options
    local seconds, of = {}, array(run.o.losses or run.o.attacks)
    for _, name in ipairs(of) do seconds[name] = run.seconds[name] end
    local fields = {
        {"setting", run.setting},
        {"options", setmetatable(used, {__jsonorder = order})},
        {"advrt", about.version}, {"lua", _VERSION}, {"onednn", system.onednn_version},
        {"device", about.device}, {"threads", about.threads}, {"isa", about.isa},
        {"precision", about.precision}, {"plan", about.plan},
        {"seed", run.o.seed},
        {"net", run.net.name},
        {"net_sha256", sha256(run.net.definition)}, {"weights_sha256", sha256(run.net.weights)},
        {"images_found", run.found}, {"images_wrong", run.wrong},
        {"images_left_out", run.left_out}, {"images_attacked", run.attacked},
        {"clean_accuracy", run.found > 0 and (run.found - run.wrong) / run.found or json.null},
        {"seconds", setmetatable(seconds, {__jsonorder = of})},
        {"start", utc(run.began)}, {"end", utc(os.time())},
    }
    local all, top = {}, {}
    for i, field in ipairs(fields) do top[i], all[field[1]] = field[1], field[2] end
    setmetatable(all, {__jsonorder = top})
    return json.encode(all, {indent = true}) .. "\n"
end

return run_json
