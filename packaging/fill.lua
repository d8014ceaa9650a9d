--- `build/advrt packaging/fill.lua PREFIX FOLDER TEMPLATE...`: files of the installation, written to the
-- folder under their templates' names. What they say of the experiments is what their --help says; what
-- they say of advrt's own options is the table of those.

local fail = require "advrt.support.fail"
local lfs = require "lfs"
local system = require "advrt.core.system"

local prefix, folder = ...
if not folder then fail.option("packaging/fill.lua wants a prefix, a folder and templates") end

local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

local function help_of(script)
    local command = ("%s %s --help"):format(quoted(system.options.executable), quoted(script))
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

--- A text as mandoc reads it, in lines of at most 78 bytes, a clause each.
local function page_text(text)
    local lines = {}
    for clause in (text .. "; "):gmatch("(.-);%s+") do
        local line = ""
        for word in clause:gsub("\\", "\\e"):gsub("-", "\\-"):gmatch("%S+") do
            if line ~= "" and #line + #word > 76 then
                lines[#lines + 1], line = line, ""
            end
            line = line .. (line ~= "" and " " or "") .. word
        end
        lines[#lines + 1] = line .. ";"
    end
    lines[#lines] = lines[#lines]:sub(1, -2)
    return (table.concat(lines, "\n"):gsub("\n(['.])", "\n\\&%1"))
end

local cases, sections = {}, {}
for i, name in ipairs(scripts) do
    local help = help_of("experiments/" .. name .. ".lua")
    cases[i] = ("    %s) echo '%s' ;;"):format(name, options_of(help))
    local about = help:match("^(.-)\n\n"):gsub("\n", " "):gsub("^%u", string.lower):gsub("%.$", "")
    sections[i] = (".TP\n.B %s\n%s"):format(name, page_text(about))
end

--- An option of advrt itself as the manual page has it.
local function option_section(option)
    local name = option.name:gsub("-", "\\-")
    local short = option.short and (option.short:gsub("-", "\\-"))
    local head = short and (".BR %s \", \" %s"):format(short, name)
        or option.value and (".BI \"%s \" %s"):format(name, option.value) or ".B " .. name
    local text = option.help
    if option.usual then text = text .. "; by default " .. option.usual end
    if option.environment then
        text = ("%s, or what %s in the environment says"):format(text, option.environment)
    end
    return (".TP\n%s\n%s"):format(head, page_text(text))
end

--- A case of the completion: what an option's value may be.
local function option_case(option)
    local values = option.choices and table.concat(option.choices, " ") or ""
    return ("        %s) choices='%s' ;;"):format(option.name, values)
end

local about_options, value_cases, valued, names = {}, {}, {}, {}
for _, option in ipairs(system.program_options) do
    about_options[#about_options + 1] = option_section(option)
    if option.value then value_cases[#value_cases + 1] = option_case(option) end
    names[#names + 1] = option.name
    names[#names + 1] = option.short
    if option.joined then valued[#valued + 1] = option.name end
end

local values = {
    PREFIX = prefix, VERSION = system.options.version, OPTIONS = table.concat(names, " "),
    SCRIPTS = table.concat(scripts, " "), ABOUTOPTIONS = table.concat(about_options, "\n"),
    VALUES = table.concat(value_cases, "\n"), VALUED = table.concat(valued, " | "),
}
for _, template in ipairs {select(3, ...)} do
    values.EXPERIMENTS = table.concat(template:find("bash", 1, true) and cases or sections, "\n")
    local file <close> = io.open(template, "r") or fail("cannot read %s", template)
    local text = file:read("a"):gsub("@(%u+)@", values)
    local done, message = system.write(("%s/%s"):format(folder, template:match("[^/]*$")), text)
    if not done then fail("%s", message) end
end
