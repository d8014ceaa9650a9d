--- Comma-separated values by RFC 4180, strictly.

local fail = require "advrt.support.fail"
local lfs = require "lfs"

local csv = {}

--- The whole text of a file; nil, a message that begins with its path and errno where it cannot be read.
-- What lies in a folder of images, or in a run's, may be of any kind: a pipe would be waited for.
function csv.read(path)
    local kind = lfs.attributes(path, "mode")
    if kind == "directory" then return nil, path .. ": is a directory" end
    if kind and kind ~= "file" then return nil, path .. ": is no regular file" end
    local file, message, code = io.open(path, "rb")
    if not file then return nil, message, code end
    local text, problem, number = file:read("a")
    file:close()
    return text, problem and path .. ": " .. problem, number
end

--- The whole text of a file that need not be there: nil where it is not. One that is there and cannot be
-- read is a failure.
function csv.read_optional(path)
    local text, message, code = csv.read(path)
    if not text and code ~= fail.NO_FILE then fail("%s", message) end
    return text
end

--- Reads one CSV field at `at`; returns it and the place after it, or nil and what is wrong.
local function take_field(text, at)
    if text:sub(at, at) ~= '"' then
        local field, after = text:match('^([^,\r\n]*)()', at)
        if field:find('"', 1, true) then return nil, "a quote inside a field that is not quoted" end
        return field, after
    end
    local parts, from = {}, at + 1
    while true do
        local close = text:find('"', from, true)
        if not close then return nil, "a quote that is never closed" end
        parts[#parts + 1] = text:sub(from, close - 1)
        if text:sub(close + 1, close + 1) ~= '"' then
            return table.concat(parts, '"'), close + 1
        end
        from = close + 2
    end
end

--- Parses CSV (RFC 4180; lines end in LF, CRLF or CR) strictly. Returns an array of
-- {line = number of its first line, field, ...} without lines of blanks, or nil and a message that
-- starts with the line.
function csv.parse(text)
    local records, at, line = {}, 1, 1
    if text:sub(1, 3) == "\xEF\xBB\xBF" then at = 4 end
    while at <= #text do
        local record = {line = line}
        repeat
            local field, after = take_field(text, at)
            if not field then return nil, ("line %d: %s"):format(line, after) end
            record[#record + 1] = field
            local _, newlines = field:gsub("\r\n?", "\n"):gsub("\n", "")
            line = line + newlines
            at = after + 1
            local separator = text:sub(after, after)
        until separator ~= ","
        local finish = text:match("^\r\n()", at - 1) or text:match("^[\r\n]()", at - 1)
        if finish then
            at, line = finish, line + 1
        elseif at <= #text then
            return nil, ("line %d: text after a closing quote"):format(line)
        end
        if #record > 1 or record[1]:find("%S") then records[#records + 1] = record end
    end
    return records
end

-- What a cell of a spreadsheet begins with that is computed and not shown: ASCII, and the wide forms.
local computed = {"=", "+", "-", "@", "\t", "\r", "\n", "\u{FF1D}", "\u{FF0B}", "\u{FF0D}", "\u{FF20}"}

--- Whether a file's name, without any ./ before it, begins so.
local function is_computed(name)
    local at = 1
    while name:sub(at, at + 1) == "./" do at = at + 2 end
    for _, start in ipairs(computed) do
        if name:sub(at, at + #start - 1) == start then return true end
    end
    return false
end

--- The name of a file as a field. One that begins as a formula of a spreadsheet does gets ./ before it: it
-- is the same file, and nothing computes it.
function csv.file(name) return csv.field(is_computed(name) and "./" .. name or name) end

--- The name of a file that a field holds, as csv.file wrote it.
function csv.name(field) return field:sub(1, 2) == "./" and is_computed(field) and field:sub(3) or field end

--- Text that names no file as a field: a quote sign goes before what a spreadsheet would compute.
function csv.text(text) return csv.field(is_computed(text) and "'" .. text or text) end

--- A field as it is written: quoted where it must be.
function csv.field(text)
    if text:find('[",\r\n]') then return '"' .. text:gsub('"', '""') .. '"' end
    return text
end

return csv
