--- Every sentence that the program may say, read from its source: `build/advrt tests/messages.lua [WORD]`
-- prints them as PATH:LINE: TEXT, those of files whose path has WORD. A sentence is a string of at least
-- three words outside of comments. Strings joined by `..`, or side by side in C, are one.

local lfs = require "lfs"
local support = require "tests.support"

local messages = {}

local LEAST_WORDS = 3

--- The files of that ending below a folder, sorted.
local function files_below(folder, ending, list)
    for _, name in ipairs(support.list(folder)) do
        local path = folder .. "/" .. name
        if lfs.attributes(path, "mode") == "directory" then
            files_below(path, ending, list)
        elseif name:sub(-#ending) == ending then
            list[#list + 1] = path
        end
    end
    return list
end

local escapes = {n = "\n", t = "\t", r = "\r", ['"'] = '"', ["'"] = "'", ["\\"] = "\\"}

--- The quoted string that begins at i: its text, and the place behind it.
local function quoted(source, i)
    local quote, parts, at = source:sub(i, i), {}, i + 1
    while true do
        local c = source:sub(at, at)
        if c == quote or c == "" then return table.concat(parts), at + 1 end
        if c == "\\" then
            local e = source:sub(at + 1, at + 1)
            parts[#parts + 1] = escapes[e] or "?"
            at = at + 2
        else
            parts[#parts + 1] = c
            at = at + 1
        end
    end
end

-- How each language writes comments and long strings: a function (source, i) -> place behind the comment
-- that begins at i, or nil; and the same for a long string, with its text.
local languages = {
    [".lua"] = {
        comment = function(source, i)
            if source:sub(i, i + 1) ~= "--" then return nil end
            local level = source:match("^%-%-%[(=*)%[", i)
            if level then return select(2, source:find("]" .. level .. "]", i, true)) + 1 end
            return source:find("\n", i, true) or #source + 1
        end,
        long = function(source, i)
            local level, start = source:match("^%[(=*)%[\n?()", i)
            if not level then return nil end
            local first, last = source:find("]" .. level .. "]", start, true)
            return source:sub(start, first - 1), last + 1
        end,
        joins = function(between) return between:find("^%s*%.%.%s*$") end,
    },
    [".c"] = {
        comment = function(source, i)
            local two = source:sub(i, i + 1)
            if two == "//" then return source:find("\n", i, true) or #source + 1 end
            return two == "/*" and select(2, source:find("*/", i, true)) + 1 or nil
        end,
        long = function() return nil end,
        joins = function(between) return between:find("^%s*$") end,
    },
}

--- All strings of a source in order: {line =, text =}; those that are joined are one.
function messages.strings(source, ending)
    local language = languages[ending]
    local list, i, line, last, between = {}, 1, 1, nil, ""
    local function count(text) line = line + select(2, text:gsub("\n", "")) end
    while i <= #source do
        local c = source:sub(i, i)
        local text, behind = language.long(source, i)
        if not text and (c == '"' or c == "'") then text, behind = quoted(source, i) end
        local after = not text and language.comment(source, i)
        if text then
            if last and language.joins(between) then
                last.text = last.text .. text
            else
                last = {line = line, text = text}
                list[#list + 1] = last
            end
            count(source:sub(i, behind - 1))
            i, between = behind, ""
        elseif after then
            count(source:sub(i, after - 1))
            i = after
        else
            if c == "\n" then line = line + 1 end
            between, i = between .. c, i + 1
        end
    end
    return list
end

--- Whether a string is a sentence, or a part of one: so many words in a row, letters only.
local function is_sentence(text)
    local words = 0
    for word in text:gmatch("%S+") do
        if word:find("^[(\"']?%a[%a'-]*[,.;:!?)\"']*$") then words = words + 1 end
    end
    return words >= LEAST_WORDS
end

--- The sentences of the program whose source is at root, an array of {path =, line =, text =}.
function messages.all(root)
    local list = {}
    for _, place in ipairs {{"experiments", ".lua"}, {"lua", ".lua"}, {"runtime", ".c"}} do
        for _, path in ipairs(files_below(root .. "/" .. place[1], place[2], {})) do
            for _, string in ipairs(messages.strings(support.read(path), place[2])) do
                if is_sentence(string.text) then
                    list[#list + 1] = {path = path:sub(#root + 2), line = string.line, text = string.text}
                end
            end
        end
    end
    return list
end

if arg and arg[0] and arg[0]:find("tests/messages%.lua$") then
    for _, m in ipairs(messages.all(".")) do
        if m.path:find(arg[1] or "", 1, true) then
            print(("%s:%d: %s"):format(m.path, m.line, (m.text:gsub("%s*\n%s*", " | "))))
        end
    end
end

return messages
