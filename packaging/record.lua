--- `build/advrt packaging/record.lua FOLDER NAME`: writes the file NAME below FOLDER, a wheel's RECORD. It
-- lists every file below FOLDER with its SHA-256 and its size.

local fail = require "advrt.support.fail"
local lfs = require "lfs"
local system = require "advrt.core.system"

local folder, record = ...
if not record then fail.option("packaging/record.lua wants a folder and a name") end

local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

--- Hexadecimal digits as base64 for addresses, without padding.
local function base64(hex)
    local bits = hex:gsub("..", function(digits)
        local byte, text = tonumber(digits, 16), ""
        for i = 7, 0, -1 do text = text .. (byte >> i & 1) end
        return text
    end)
    bits = bits .. ("0"):rep(-#bits % 6)
    return (bits:gsub("......", function(six)
        local at = tonumber(six, 2) + 1
        return letters:sub(at, at)
    end))
end

local rows = {}

local function add(below)
    for name in lfs.dir(folder .. "/" .. below) do
        local path = below .. name
        local mode = lfs.attributes(folder .. "/" .. path, "mode")
        if name == "." or name == ".." or path == record then
            goto continue
        elseif mode == "directory" then
            add(path .. "/")
        else
            local hex, problem = system.sha256(folder .. "/" .. path)
            if not hex then fail("%s", problem) end
            if path:find '[,"]' then path = '"' .. path:gsub('"', '""') .. '"' end
            rows[#rows + 1] = ("%s,sha256=%s,%d"):format(path, base64(hex),
                lfs.attributes(folder .. "/" .. below .. name, "size"))
        end
        ::continue::
    end
end

add ""
table.sort(rows)
rows[#rows + 1] = record .. ",,"
local done, problem = system.write(folder .. "/" .. record, table.concat(rows, "\n") .. "\n")
if not done then fail("%s", problem) end
