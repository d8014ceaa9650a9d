--- `build/advrt packaging/fill.lua PREFIX FOLDER TEMPLATE...`: files of the installation, written to the
-- folder under their templates' names. What they say of the experiments and of advrt's options is what
-- their --help says.

local fail = require "advrt.support.fail"
local lfs = require "lfs"
local system = require "advrt.core.system"

local prefix, folder = ...
if not folder then fail.option("packaging/fill.lua wants a prefix, a folder and templates") end

local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

local function help_of(script)
    local command = quoted(system.options.executable) .. " " .. (script and quoted(script) or "") .. " --help"
    local pipe <close> = assert(io.popen(command))
    local text = pipe:read("a")
    if not pipe:close() then fail("no help from %s", command) end
    return text
end

--- The options that begin a line of a help, in its order.
local function options_of(help)
    local list = {}
    for line in help:gmatch("\n *(%-[^\n]*)") do
        local words = line:match("^(.-)   *%S") or line
        for option in words:gmatch("%f[-]%-%-?%a[%w-]*") do list[#list + 1] = option end
    end
    return table.concat(list, " ")
end

local scripts = {}
for file in lfs.dir(system.options.root .. "/experiments") do
    scripts[#scripts + 1] = file:match("^(.*)%.lua$")
end
table.sort(scripts)

local cases, sections = {}, {}
for i, name in ipairs(scripts) do
    local help = help_of("experiments/" .. name .. ".lua")
    cases[i] = ("    %s) echo '%s' ;;"):format(name, options_of(help))
    local about = help:match("\n\n(.-)\n\n"):gsub("\n", " "):gsub("^%u", string.lower):gsub("%.$", "")
    sections[i] = (".TP\n.B %s\n%s"):format(name, about:gsub("\\", "\\e"):gsub("-", "\\-"))
end

local values = {
    PREFIX = prefix, VERSION = system.options.version, OPTIONS = options_of(help_of()),
    SCRIPTS = table.concat(scripts, " "),
}
for _, template in ipairs {select(3, ...)} do
    values.EXPERIMENTS = table.concat(template:find("bash", 1, true) and cases or sections, "\n")
    local file <close> = io.open(template, "r") or fail("cannot read %s", template)
    local text = file:read("a"):gsub("@(%u+)@", values)
    local done, message = system.write(("%s/%s"):format(folder, template:match("[^/]*$")), text)
    if not done then fail("%s", message) end
end
