--- README and the pages of docs/ as the tests read them: blocks of commands with their tags, links, anchors.
-- Run as a script it is a part of `make lint`: prints each block that has no tag, and then fails.
-- CONTRIBUTING.md explains the tags.

local lfs = require "lfs"

local pages = {}

local COMMANDS = {sh = true, bash = true, shell = true, console = true}
local NEEDS = {imagenet = true, gpu = true, slurm = true, mpi = true, pip = true, onednn = true,
    root = true, time = true}

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("a")
    file:close()
    return text
end

--- The pages of the tree at root, sorted: those beside README.md, and docs/*.md.
function pages.list(root)
    local list = {}
    for _, folder in ipairs {"", "docs/"} do
        for name in lfs.dir(root .. "/" .. folder) do
            if name:find("%.md$") then list[#list + 1] = folder .. name end
        end
    end
    table.sort(list)
    return list
end

--- The tags behind a fence's language; nil and a reason where they are none that there are.
local function tags_of(words)
    local tags = {}
    for word in words:gmatch("%S+") do
        local needs = word:match("^needs=(.*)$")
        if needs and NEEDS[needs] then
            tags.needs = needs
        elseif word == "run" or word == "slow" or word == "fails" then
            tags[word] = true
        else
            return nil, ("has the unknown tag '%s'"):format(word)
        end
    end
    local kinds = (tags.needs and 1 or 0) + (tags.run and 1 or 0) + (tags.slow and 1 or 0)
    if kinds ~= 1 then return nil, "needs one tag: run, slow or needs=WHAT" end
    if tags.fails and tags.needs then return nil, "has the tag fails without run or slow" end
    return tags
end

--- The fenced blocks of a page in order: line, language, body, and for commands tags, or fault.
-- name is that of the file which the first line of a block states: `-- margin.lua`.
function pages.blocks(text)
    local list, block, body = {}, nil, nil
    local number = 0
    for line in (text .. "\n"):gmatch("(.-)\n") do
        number = number + 1
        local info = line:match("^%s*```(.*)$")
        if info and not block then
            block, body = {line = number, language = info:match("^%S+")}, {}
            if COMMANDS[block.language or ""] then
                block.commands = true
                block.tags, block.fault = tags_of(info:match("^%S+%s*(.*)$"))
            elseif not block.language then
                block.fault = "has no language"
            end
        elseif info then
            block.body = table.concat(body, "\n")
            block.name = block.body:match("^[-#]+ ([%w_.-]+%.%a+)\n")
            list[#list + 1], block = block, nil
        elseif block then
            body[#body + 1] = line
        end
    end
    if block then
        block.body, block.fault = table.concat(body, "\n"), "is not closed"
        list[#list + 1] = block
    end
    return list
end

--- The page without its fenced blocks, whose lines are empty then.
function pages.prose(text)
    local inside = false
    return ((text .. "\n"):gsub("(.-)\n", function(line)
        local fence = line:find("^%s*```")
        if fence then inside = not inside end
        return (fence or inside) and "\n" or line .. "\n"
    end))
end

--- What is wrong with a page's blocks, a line each.
function pages.faults(name, text)
    local list = {}
    for _, block in ipairs(pages.blocks(text)) do
        if block.fault then
            list[#list + 1] = ("%s:%d: the block %s"):format(name, block.line, block.fault)
        end
    end
    local number = 0
    for line in pages.prose(text):gmatch("(.-)\n") do
        number = number + 1
        local word = line:match("^    (%S+)")
        if word and (word == "$" or word == "make" or word == "mpirun" or word:find("advrt$")
            or word:find("^[%u_]+=") or word == "tests/run") then
            list[#list + 1] = ("%s:%d: a command outside a fenced block"):format(name, number)
        end
    end
    return list
end

--- The commands of a console block: {command =, expected = {lines}}.
function pages.session(body)
    local list, open = {}, false
    for line in (body .. "\n"):gmatch("(.-)\n") do
        local command = line:match("^%$ (.*)$")
        if command then
            list[#list + 1] = {command = command, expected = {}}
        elseif open then
            list[#list].command = list[#list].command .. "\n" .. line
        elseif #list > 0 then
            table.insert(list[#list].expected, line)
        end
        open = (command or open) and line:find("\\$") ~= nil
    end
    return list
end

--- The shell's commands of a block.
function pages.script(block)
    if block.language ~= "console" then return block.body end
    local list = {}
    for i, part in ipairs(pages.session(block.body)) do list[i] = part.command end
    return table.concat(list, "\n")
end

--- A line of output without what differs between machines: numbers, and how many blanks there are.
function pages.shape(line)
    return (line:gsub("<?[-+]?%d[%d.,:e+-]*", "#"):gsub("%f[%a]nan%f[%A]", "#"):gsub("%s+", " ")
        :gsub("^ ", ""):gsub(" $", ""))
end

--- The first expected line that the output does not have at its place; nil where it has all.
-- A line `...` stands for any lines, none included.
function pages.missing(expected, output)
    local lines = {}
    for line in (output .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = pages.shape(line) end
    local at, anywhere = 1, false
    for _, line in ipairs(expected) do
        if line == "..." then
            anywhere = true
        else
            local wanted = pages.shape(line)
            while anywhere and lines[at] and lines[at] ~= wanted do at = at + 1 end
            if lines[at] ~= wanted then return line end
            at, anywhere = at + 1, false
        end
    end
    return nil
end

--- The anchors of a page's headings, as GitHub makes them.
function pages.anchors(text)
    local set, count = {}, {}
    for heading in ("\n" .. pages.prose(text)):gmatch("\n#+ ([^\n]*)") do
        local slug = heading:gsub("%[([^%]]*)%]%([^)]*%)", "%1"):lower():gsub("[^%w%s_\x80-\xff-]", "")
            :gsub("%s", "-")
        local n = count[slug] or 0
        set[n == 0 and slug or slug .. "-" .. n] = true
        count[slug] = n + 1
    end
    return set
end

--- The targets of a page's links, pictures included.
function pages.links(text)
    local list = {}
    local prose = pages.prose(text):gsub("`[^`\n]*`", "")
    for target in prose:gmatch("%]%(([^)%s]+)%)") do list[#list + 1] = target end
    return list
end

--- The links of a page below root that lead nowhere, each with the reason.
function pages.dead(root, name)
    local list = {}
    local folder = name:match("^(.*/)") or ""
    for _, target in ipairs(pages.links(read(root .. "/" .. name))) do
        if not target:find("^%a+:") then
            local path, anchor = target:match("^([^#]*)#?(.*)$")
            local file = path == "" and name or folder .. path
            local mode = lfs.attributes(root .. "/" .. file, "mode")
            if not mode then
                list[#list + 1] = ("%s: %s is not there"):format(name, target)
            elseif anchor ~= "" and not (file:find("%.md$")
                and pages.anchors(read(root .. "/" .. file))[anchor]) then
                list[#list + 1] = ("%s: %s has no such heading"):format(name, target)
            end
        end
    end
    return list
end

if arg and arg[0] and arg[0]:find("tests/pages%.lua$") then
    local failed = false
    for _, name in ipairs(pages.list(".")) do
        for _, fault in ipairs(pages.faults(name, read(name))) do
            print(fault)
            failed = true
        end
    end
    os.exit(not failed)
end

return pages
