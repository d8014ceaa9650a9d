--- Names in a session: what an expression refers to, and how an incomplete name can be completed.
-- Calls none of the user's functions.

local arguments = require "advrt.support.check"
local lfs = require "lfs"

local names = {}

local keywords = {"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto",
    "if", "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"}

local DEEPEST = 8 -- tables in a chain of inheritance

--- The table that holds a value's inherited names. For a tensor it is the only upvalue of the
-- function that also indexes its rows.
local function inherited(value)
    local index = (debug.getmetatable(value) or {}).__index
    if arguments.is_tensor(value) then index = select(2, debug.getupvalue(index, 1)) end
    return type(index) == "table" and index or nil
end

local function field(value, key)
    for _ = 1, DEEPEST do
        if type(value) == "table" and rawget(value, key) ~= nil then return rawget(value, key) end
        if type(key) == "number" and arguments.is_tensor(value) then
            local ok, row = pcall(function() return value[key] end)
            return ok and row or nil
        end
        value = inherited(value)
        if not value then return nil end
    end
end

--- The value of `a.b[1]:c` and the value before its last name; nil if it has none. `globals` is the
-- table of the first name.
function names.value(expression, globals)
    local first, rest = expression:match("^%s*([%a_][%w_]*)(.*)$")
    if not first then return nil end
    local ok, value = pcall(function() return globals[first] end)
    local owner
    if not ok then return nil end
    rest = rest:gsub("%s+$", "")
    while rest ~= "" do
        local name, after = rest:match("^[.:]([%a_][%w_]*)(.*)$")
        local number, behind = rest:match("^%[(%d+)%](.*)$")
        local text, beyond = rest:match("^%[[\"']([^\"'%]]*)[\"']%](.*)$")
        if not (name or number or text) then return nil end
        owner = value
        value = field(value, name or math.tointeger(number) or text)
        rest = after or behind or beyond
        if value == nil then return nil, owner end
    end
    return value, owner
end

--- All names that can follow a value's dot, name -> value; after a colon, only callable ones.
function names.fields(value, colon)
    local found = {}
    for _ = 1, DEEPEST do
        for key, v in next, type(value) == "table" and value or {} do
            local called = type(v) == "function" or (debug.getmetatable(v) or {}).__call
            if type(key) == "string" and key:find("^[%a_][%w_]*$") and found[key] == nil
                and (called or not colon) then
                found[key] = v
            end
        end
        value = inherited(value)
        if not value then break end
    end
    return found
end

--- The text after a quote that is open at the end of a line, and that quote.
local function open_quote(line)
    local quote, start
    local i = 1
    while i <= #line do
        local c = line:sub(i, i)
        if quote then
            if c == "\\" then
                i = i + 1
            elseif c == quote then
                quote = nil
            end
        elseif c == '"' or c == "'" then
            quote, start = c, i + 1
        elseif line:sub(i, i + 1) == "--" then
            return nil
        end
        i = i + 1
    end
    if quote then return line:sub(start), quote end
end

--- The candidates in a list that begin with `prefix`, sorted.
local function matching(candidates, prefix)
    local list = {}
    for _, name in ipairs(candidates) do
        if name:sub(1, #prefix) == prefix then list[#list + 1] = name end
    end
    table.sort(list)
    return list
end

local function common_start(list)
    local first, last = list[1], list[#list] -- sorted, so these two differ first
    local n = 0
    while n < #first and first:byte(n + 1) == last:byte(n + 1) do n = n + 1 end
    return first:sub(1, n)
end

local function files(prefix)
    local folder, start = prefix:match("^(.*/)([^/]*)$")
    if not folder then folder, start = "", prefix end
    local found = {}
    local ok, iterator, state = pcall(lfs.dir, folder == "" and "." or folder)
    if not ok then return {}, start end
    for name in iterator, state do
        local hidden = name:sub(1, 1) == "." and start:sub(1, 1) ~= "."
        if not hidden and name ~= "." and name ~= ".." and not name:find("[%c\"'\\]") then
            local mode = lfs.attributes(folder .. name, "mode")
            found[#found + 1] = name .. (mode == "directory" and "/" or "")
        end
    end
    return matching(found, start), start
end

--- The list in as many columns as fit into the width.
local function columns(list, width)
    local widest = 0
    for _, name in ipairs(list) do widest = math.max(widest, #name) end
    local per_line = math.max(1, width // (widest + 2))
    local lines, row = {}, {}
    for i, name in ipairs(list) do
        row[#row + 1] = i % per_line == 0 and name or name .. (" "):rep(widest + 2 - #name)
        if #row == per_line or i == #list then
            lines[#lines + 1] = table.concat(row):gsub("%s+$", "")
            row = {}
        end
    end
    return table.concat(lines, "\n")
end

local function keys_of(t, into)
    for key in pairs(t) do into[#into + 1] = key end
    return into
end

--- The names that can complete a line, sorted, and the part of the name that is already there.
local function candidates_of(line, globals, offered)
    local path = line:match("[%a_][%w_.:%[%]]*$")
    if not path or line:sub(1, -#path - 1):find("[%w_.:%])\"']$") then return {}, "" end
    local object, separator, prefix = path:match("^(.*)([.:])([%w_]*)$")
    if not object then
        local all = table.move(keywords, 1, #keywords, 1, {})
        table.move(offered, 1, #offered, #all + 1, all)
        for key in pairs(names.fields(globals)) do all[#all + 1] = key end
        local list = matching(all, path)
        for i = #list, 2, -1 do
            if list[i] == list[i - 1] then table.remove(list, i) end
        end
        return list, path
    end
    local value = names.value(object, globals)
    if value == nil then return {}, prefix end
    return matching(keys_of(names.fields(value, separator == ":"), {}), prefix), prefix
end

--- Completes the line before the cursor. Returns the text to insert there, or "", and, if several
-- names are possible, their list for a terminal of `width` columns; else nil. Inside quotes it
-- completes file names; elsewhere fields, methods and variables. `globals` is the table of
-- variables; `offered` lists further names, which `globals` loads on demand.
function names.complete(line, globals, offered, width)
    if line:find("^%s*$") then return "    ", nil end
    local list, prefix
    local path, quote = open_quote(line)
    if path then
        list, prefix = files(path)
    else
        list, prefix = candidates_of(line, globals, offered)
    end
    if #list == 0 then return "", nil end
    local more = common_start(list):sub(#prefix + 1)
    if #list > 1 then return more, more == "" and columns(list, width) or nil end
    return quote and more:sub(-1) ~= "/" and more .. quote or more, nil
end

return names
