--- `build/advrt packaging/reference.lua DIR [markdown]`: the docstrings of lua/advrt as pages of HTML, one
-- for each module and index.html; the same text as a session's `?`. With `markdown` the pages are Markdown
-- for MkDocs (packaging/site), with a heading and an anchor for each function.

local docs = require "advrt.session.docs"
local fail = require "advrt.support.fail"
local html = require "advrt.results.report.html"
local lfs = require "lfs"
local system = require "advrt.core.system"

local folder, form = ...
if not folder or form and form ~= "markdown" then
    fail.option("packaging/reference.lua wants a folder and, optionally, the word markdown")
end

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

--- The entries of a module by docstring, which may be about several functions: an array of {signature =,
-- text = lines, ids = the functions' names}.
local function entries_of(module)
    local list, i, entries = {}, 1, module.entries
    while i <= #entries do
        local first = entries[i]
        local one = {signature = first.signature, text = first.text, ids = {}}
        while entries[i] and entries[i].signature == first.signature and entries[i].line == first.line do
            local e = entries[i]
            one.ids[#one.ids + 1] = (e.owner and e.owner .. e.separator or "") .. e.last
            i = i + 1
        end
        if not first.private then list[#list + 1] = one end
    end
    return list
end

-- How pages are written: module(name, about), entry(of entries_of), group(title, its lines), line(name, gist)
-- and page(title, its parts); `suffix` is that of their files.
local writers = {
    html = {
        suffix = ".html",
        module = function(name, about)
            return ('<p><a href="index.html">advrt</a></p>\n<h1>%s</h1>\n<pre>%s</pre>'):format(name, about)
        end,
        entry = function(one)
            local ids = {}
            for i, id in ipairs(one.ids) do ids[i] = ('<a id="%s"></a>'):format(id) end
            return ("<h2>%s<code>%s</code></h2>\n<pre>%s</pre>"):format(table.concat(ids),
                html.text(one.signature), lines_of(one.text))
        end,
        group = function(title, lines) return ("<h2>%s</h2>\n<dl>%s\n</dl>"):format(title, lines) end,
        line = function(name, gist)
            return ('\n<dt><a href="%s.html"><code>advrt.%s</code></a></dt>\n<dd>%s</dd>'):format(name, name,
                html.text(gist))
        end,
        page = function(title, parts) return PAGE:format(title, table.concat(parts, "\n")) end,
        title = "<h1>advrt %s</h1>",
    },
    markdown = {
        suffix = ".md",
        module = function(name, about)
            return ('# advrt.%s\n\n<pre class="reference">%s</pre>'):format(name, about)
        end,
        entry = function(one)
            local others = {}
            for i = 2, #one.ids do others[i - 1] = ('<a id="%s"></a>'):format(one.ids[i]) end
            return ('## `%s` { #%s }\n\n%s<pre class="reference">%s</pre>'):format(one.signature, one.ids[1],
                #others > 0 and table.concat(others) .. "\n\n" or "", lines_of(one.text))
        end,
        group = function(title, lines)
            return ("## %s\n\n| module | what it is |\n|---|---|%s"):format(title, lines)
        end,
        line = function(name, gist)
            return ("\n| [advrt.%s](%s.md) | %s |"):format(name, name, (html.text(gist):gsub("|", "\\|")))
        end,
        page = function(_, parts) return table.concat(parts, "\n\n") .. "\n" end,
        title = "# Functions of advrt %s",
    },
}
local writer = writers[form or "html"]

local function module_page(name)
    local module = docs.module(name)
    local parts = {writer.module(name, lines_of(module.about))}
    for _, one in ipairs(entries_of(module)) do parts[#parts + 1] = writer.entry(one) end
    return writer.page("advrt." .. name, parts)
end

local function index_page(names)
    local at_hand, parts = {}, {writer.title:format(html.text(system.options.version))}
    local function list(title, wanted)
        local lines = {}
        for i, name in ipairs(wanted) do lines[i] = writer.line(name, docs.gist(name)) end
        parts[#parts + 1] = writer.group(title, table.concat(lines))
    end
    list("At hand in a session", docs.modules)
    for _, name in ipairs(docs.modules) do at_hand[name] = true end
    local others = {}
    for _, name in ipairs(names) do
        if not at_hand[name] then others[#others + 1] = name end
    end
    list("What these and the experiments are made of", others)
    return writer.page("advrt", parts)
end

local function write(name, text)
    local path = ("%s/%s%s"):format(folder, name, writer.suffix)
    local done, message = system.write(path, text)
    if not done then fail("%s", message) end
end

lfs.mkdir(folder)
local names = modules_in(system.options.root .. "/lua/advrt", "", {})
for _, name in ipairs(names) do write(name, module_page(name)) end
write("index", index_page(names))
print(("  %s/index%s: %d modules"):format(folder, writer.suffix, #names))
