--- `build/advrt packaging/site/build.lua FOLDER`: README, docs/ and the function reference as one site that
-- can be searched, in FOLDER/html, by MkDocs with the theme Material. FOLDER/source holds what MkDocs reads.
--
-- The pages are those of the source tree. Their links stay, since their folders do. MkDocs knows no tags
-- behind a block's language, and wants a blank line before a list.

local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local json = require "advrt.support.json"
local lfs = require "lfs"
local options = require "advrt.support.options"
local system = require "advrt.core.system"

local folder = ...
if not folder then fail.option("packaging/site/build.lua wants a folder") end
local root = system.options.root

local function run(...)
    local words = {...}
    for i, word in ipairs(words) do words[i] = options.quote(word) end
    local command = table.concat(words, " ")
    if not os.execute(command) then fail("the site cannot be built: this command failed: %s", command) end
end

local function read(path)
    local text, message = csv.read(path)
    if not text then fail("%s", message) end
    return text
end

local function write(path, text)
    local done, message = system.write(path, text)
    if not done then fail("%s", message) end
end

if not os.execute("command -v mkdocs >/dev/null 2>&1") then
    print("the site is left out: mkdocs is not installed (Debian: apt-get install mkdocs mkdocs-material)")
    return
end

-- The pages -------------------------------------------------------------------

--- A page as MkDocs reads it.
local function page_text(text)
    local lines, inside, before = {}, false, ""
    for line in (text:gsub("\n$", "") .. "\n"):gmatch("(.-)\n") do
        local indent, language = line:match("^(%s*)```%s*(%S*)")
        if indent then
            inside = not inside
            line = indent .. "```" .. language
        end
        -- GitHub wants a bar in a cell's code escaped; MkDocs shows the escape.
        if not inside and line:find("^|") then
            line = line:gsub("`[^`]*`", function(code) return (code:gsub("\\|", "|")) end)
        end
        local listed = not inside and line:find("^[-*] ") or not inside and line:find("^%d+%. ")
        local follows = before ~= "" and not before:find("^[-*] ") and not before:find("^%d+%. ")
            and not before:find("^ ")
        if listed and follows then lines[#lines + 1] = "" end
        lines[#lines + 1], before = line, line
    end
    return table.concat(lines, "\n") .. "\n"
end

local function copy_pages(from, to)
    lfs.mkdir(to)
    for name in lfs.dir(from) do
        if name:find("%.md$") then write(to .. "/" .. name, page_text(read(from .. "/" .. name))) end
    end
end

--- The title of a page: its first heading.
local function title_of(path) return read(path):match("^#%s+([^\n]*)") end

--- The order of the pages: each table of docs/README.md is a part, its head the part's name.
local function navigation()
    local lines = {"  - advrt: README.md"}
    local function add(indent, title, path)
        lines[#lines + 1] = ("%s- %s: %s"):format((" "):rep(indent), json.encode(title), path)
    end
    for line in read(root .. "/docs/README.md"):gmatch("[^\n]+") do
        local part = line:match("^| ([%l ]+) | |$")
        local path = line:match("^| %[[^%]]*%]%(([^)]*)%)")
        if part then
            lines[#lines + 1] = ("  - %s:"):format(part:gsub("^%l", string.upper))
            if #lines == 2 then add(6, "All pages", "docs/README.md") end
        elseif path then
            local place = path:gsub("^%.%./", "")
            if place == path then place = "docs/" .. path end
            add(6, title_of(root .. "/" .. place), place)
        end
    end
    for _, name in ipairs {"SECURITY.md", "CHANGELOG.md"} do add(6, title_of(root .. "/" .. name), name) end
    return lines
end

--- Adds the function reference, whose pages are in source/reference, to the navigation.
local function add_reference(lines, source)
    lines[#lines + 1] = "  - Functions:"
    lines[#lines + 1] = "      - Modules: reference/index.md"
    local at_hand = read(source .. "/reference/index.md"):match("\n## (.-)\n## ")
    for name in at_hand:gmatch("%]%(([%w_.]+)%.md%)") do
        lines[#lines + 1] = ("      - advrt.%s: reference/%s.md"):format(name, name)
    end
end

local source, site = folder .. "/source", folder .. "/html"
run("rm", "-rf", source, site)
run("mkdir", "-p", source)
copy_pages(root, source)
copy_pages(root .. "/docs", source .. "/docs")
run("cp", "-r", root .. "/docs/pictures", source .. "/docs/pictures")
run("cp", root .. "/LICENSE", root .. "/CITATION.cff", root .. "/packaging/site/site.css",
    root .. "/packaging/site/site.js", source)
run(system.options.executable, root .. "/packaging/reference.lua", source .. "/reference", "markdown")

local lines = navigation()
add_reference(lines, source)
local values = {SOURCE = "source", SITE = "html",
    THEME = root .. "/packaging/site/theme", NAV = table.concat(lines, "\n")}
write(folder .. "/mkdocs.yml", (read(root .. "/packaging/site/mkdocs.yml"):gsub("@(%u+)@", values)))
run("mkdocs", "build", "--quiet", "--config-file", folder .. "/mkdocs.yml")
-- A page that is opened from a file may not read the index itself.
write(site .. "/search/search_index.js", ("const __search = {index: Promise.resolve(%s)};\n"):format(
    read(site .. "/search/search_index.json")))
print(("  %s/index.html"):format(site))
