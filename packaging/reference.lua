--- `build/advrt packaging/reference.lua DIR`: the docstrings of lua/advrt as pages of HTML, one for each
-- module and index.html; the same text as a session's `?`.

local docs = require "advrt.session.docs"
local fail = require "advrt.support.fail"
local html = require "advrt.results.report.html"
local lfs = require "lfs"
local system = require "advrt.core.system"

local folder = ...
if not folder then fail.option("packaging/reference.lua wants a folder") end

local PAGE = [[
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s</title>
<style>
:root { color-scheme: light dark; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
pre { white-space: pre-wrap; margin: 0 0 0 1.5rem; }
code, pre { font: 0.9rem/1.5 monospace; }
h2 { font-size: 1rem; margin: 1.8rem 0 0.4rem; }
dt { margin-top: 0.6rem; }
</style>
%s
</html>
]]

--- The names of the modules in a folder below lua/advrt, sorted; `prefix` is "" or its name with a dot.
local function modules_in(path, prefix, list)
    local names = {}
    for name in lfs.dir(path) do
        if not name:find("^%.") then names[#names + 1] = name end
    end
    table.sort(names)
    for _, name in ipairs(names) do
        if lfs.attributes(path .. "/" .. name, "mode") == "directory" then
            modules_in(path .. "/" .. name, prefix .. name .. ".", list)
        elseif name:find("%.lua$") then
            list[#list + 1] = prefix .. name:gsub("%.lua$", "")
        end
    end
    return list
end

local function lines_of(text)
    local kept = table.move(text, 1, #text, 1, {})
    while kept[#kept] == "" do kept[#kept] = nil end
    for i, line in ipairs(kept) do kept[i] = html.text(line) end
    return table.concat(kept, "\n")
end

local function module_page(name)
    local module = docs.module(name)
    local parts = {('<p><a href="index.html">advrt</a></p>\n<h1>%s</h1>\n<pre>%s</pre>'):format(name,
        lines_of(module.about))}
    local i, entries = 1, module.entries
    while i <= #entries do
        local first = entries[i]
        local ids = {}
        -- one docstring may be about several functions
        while entries[i] and entries[i].signature == first.signature and entries[i].line == first.line do
            local e = entries[i]
            ids[#ids + 1] = ('<a id="%s"></a>'):format((e.owner and e.owner .. e.separator or "") .. e.last)
            i = i + 1
        end
        if not first.private then
            parts[#parts + 1] = ("<h2>%s<code>%s</code></h2>\n<pre>%s</pre>"):format(table.concat(ids),
                html.text(first.signature), lines_of(first.text))
        end
    end
    return PAGE:format("advrt." .. name, table.concat(parts, "\n"))
end

local function index_page(names)
    local at_hand, parts = {}, {"<h1>advrt " .. html.text(system.options.version) .. "</h1>"}
    local function list(title, wanted)
        parts[#parts + 1] = ("<h2>%s</h2>\n<dl>"):format(title)
        for _, name in ipairs(wanted) do
            parts[#parts + 1] = ('<dt><a href="%s.html"><code>advrt.%s</code></a></dt>\n<dd>%s</dd>')
                :format(name, name, html.text(docs.gist(name)))
        end
        parts[#parts + 1] = "</dl>"
    end
    list("At hand in a session", docs.modules)
    for _, name in ipairs(docs.modules) do at_hand[name] = true end
    local others = {}
    for _, name in ipairs(names) do
        if not at_hand[name] then others[#others + 1] = name end
    end
    list("What these and the experiments are made of", others)
    return PAGE:format("advrt", table.concat(parts, "\n"))
end

local function write(name, text)
    local path = ("%s/%s.html"):format(folder, name)
    local done, message = system.write(path, text)
    if not done then fail("%s", message) end
end

lfs.mkdir(folder)
local names = modules_in(system.options.root .. "/lua/advrt", "", {})
for _, name in ipairs(names) do write(name, module_page(name)) end
write("index", index_page(names))
print(("  %s/index.html: %d modules"):format(folder, #names))
