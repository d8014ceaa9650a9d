-- Weight files that share one thing in many places, or hold many of the smallest: what a reader takes of
-- memory and time goes with the file's size, whatever stands in it. Each is read by a process of its own.

local malformed = require "malformed"
local support = require "support"

local SECONDS = 5           -- of the processor; they take a tenth
local SMALL = 8 << 20       -- bytes of counted memory besides those for each byte of the file
local RESIDENT = 256 << 20  -- of all memory, with the program's own

local measure = [[
    local path = ...
    local tensors, message = require "advrt.tensor".load(path)
    local _, peak = require "advrt.device".memory()
    local status = io.open("/proc/self/status"):read("a")
    print(os.clock(), peak, status:match("VmHWM:%s*(%d+) kB"), tensors and "read" or message)
]]

describe("a weight file's memory and time", function()
    local dir
    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    --- Reads a file of these bytes; fails where it takes more than a few seconds, or more counted memory
    -- than `each` bytes for each of the file's. Returns what was said.
    local function read(bytes, each)
        local path = support.write(dir .. "/file", bytes)
        local script = support.write(dir .. "/measure.lua", measure)
        local status, out, err = support.advrt {script, path}
        assert.equal(0, status, err)
        local seconds, peak, resident, said = out:match("^(%S+)%s+(%S+)%s+(%S+)%s+(.*)\n$")
        assert.is_true(tonumber(seconds) < SECONDS * (support.sanitized() and 10 or 1), seconds .. " s")
        assert.is_true(tonumber(peak) <= each * #bytes + SMALL,
            ("%s bytes of memory for a file of %d"):format(peak, #bytes))
        if not support.sanitized() then
            assert.is_true(tonumber(resident) * 1024 < RESIDENT + 40 * #bytes, resident .. " kB")
        end
        return said
    end

    local function many(n, make)
        local parts = {}
        for i = 1, n do parts[i] = make(i) end
        return table.concat(parts)
    end

    local legacy, vector = malformed.legacy, malformed.vector
    local function text(s) return "X" .. string.pack("<s4", s) end
    local function recall(i) return "j" .. string.pack("<I4", i) end

    it("are bounded where one text is the name of thousands of tensors", function()
        local shared = "\x80\2" .. vector() .. "r\0\0\0\0" .. text(("n"):rep(1 << 20)) .. "r\1\0\0\0"
        local said = read(legacy(shared .. "}(" .. ("h\1h\0"):rep(60000) .. "u."), 2)
        assert.matches("holds no named tensors; ", said) -- too long for one, so passed over
        shared = "\x80\2" .. vector() .. "q\0" .. text(("n"):rep(4000)) .. "q\1"
        said = read(legacy(shared .. "}(" .. ("h\1h\0"):rep(200000) .. "u."), 40)
        assert.matches("holds a tensor 'n+", said)
    end)

    it("are bounded where the same names are in hundreds of dictionaries", function()
        local names = many(500, function(i)
            return text(("n"):rep(3900) .. i) .. "r" .. string.pack("<I4", i)
        end)
        local one = "}(" .. many(500, function(i) return recall(i) .. "h\0" end) .. "u"
        local groups = many(250, function(i) return text("g" .. i) .. one end)
        assert.equal("read", read(legacy("\x80\2" .. vector() .. "q\0" .. names .. "}(" .. groups .. "u."),
            40))
    end)

    it("are bounded where one text is the key of thousands of storages", function()
        local function keyed(length)
            local id = "(" .. "U\7storagectorch\nFloatStorage\nh\1U\3cpuK\3t"
            return "\x80\2" .. text(("k"):rep(length)) .. "q\1" .. id .. "q\2]"
                .. ("h\2Qa"):rep(200000) .. "."
        end
        assert.matches("has a storage with a name longer than 255 bytes", read(legacy(keyed(1 << 16)), 40))
        assert.matches("has a storage with a name longer than 255 bytes", read(legacy(keyed(256)), 40))
        assert.matches("lists a storage that no tensor", read(legacy(keyed(255)), 60))
    end)

    it("are bounded where lists hold one another over and over", function()
        local rows = "\x80\2" .. vector() .. "q\0]q\1"
        for i = 2, 6 do
            rows = rows .. "](" .. ("h" .. string.char(i - 1)):rep(2000) .. "eq" .. string.char(i)
        end
        assert.matches("holds no named tensors", read(legacy(rows .. "."), 60))
    end)

    it("are bounded where a pickle makes copies of what it holds", function()
        local copies = "\x80\2ccollections\nOrderedDict\nq\0](" .. ("NN\x86"):rep(2000) .. "eq\1"
            .. ("h\0h\1\x85R"):rep(3000) .. "."
        assert.matches("need more than 128 bytes of memory for each", read(legacy(copies), 129))
        assert.matches("holds no named tensors", read(legacy("\x80\2(" .. ("]"):rep(500000) .. "l.",
            "\x80\2]."), 129))
    end)

    it("are those of the text of a safetensors header", function()
        local function header(json) return string.pack("<s8", json) end
        assert.equal("its __metadata__ is not a map of texts", read(header('{"__metadata__":['
            .. ("{},"):rep(1000000) .. "{}]}"), 2):match(": (.*)"))
        assert.equal("tensor 'a': has no dtype", read(header('{"a":{"b":[' .. ("{},"):rep(1000000)
            .. "{}]}}"), 2):match(": (.*)"))
        assert.equal("tensor 'a': has 1000001 dimensions, at most 8 are supported", read(header(
            '{"a":{"dtype":"U8","data_offsets":[0,0],"shape":[' .. ("0,"):rep(1000000) .. "0]}}"), 2)
            :match(": (.*)"))
        assert.equal("read", read(header("{" .. many(50000, function(i)
            return ('"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'):format(i)
        end) .. '"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), 30))
    end)

    it("are those of the text of an index", function()
        local index = '{"weight_map":{' .. many(100000, function(i) return ('"%d":"a",'):format(i) end)
            .. '"a":"a"}}'
        assert.matches("/a: No such file or directory$", read(index, 8))
    end)
end)
