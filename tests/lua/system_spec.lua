-- advrt.core.system: files written whole, hashes, the clock, what the command line said.

local fail = require "advrt.support.fail"
local html = require "advrt.results.report.html"
local lfs = require "lfs"
local plot = require "advrt.plot"
local progress = require "advrt.run.progress"
local system = require "advrt.core.system"

local folder

local function put(name, bytes)
    local f = assert(io.open(folder .. "/" .. name, "wb"))
    f:write(bytes)
    f:close()
    return folder .. "/" .. name
end

local function get(path)
    local f = assert(io.open(path, "rb"))
    local bytes = f:read("a")
    f:close()
    return bytes
end

local function names()
    local list = {}
    for name in lfs.dir(folder) do
        if name ~= "." and name ~= ".." then list[#list + 1] = name end
    end
    table.sort(list)
    return table.concat(list, " ")
end

describe("system", function()
    before_each(function()
        folder = os.tmpname()
        os.remove(folder)
        assert(lfs.mkdir(folder))
    end)
    after_each(function() os.execute("rm -rf " .. folder) end)

    it("hashes files", function()
        assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            system.sha256(put("empty", "")))
        assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            system.sha256(put("abc", "abc")))
        -- FIPS 180-4's example of a million a's.
        assert.equal("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
            system.sha256(put("long", ("a"):rep(1000000))))
    end)

    it("says which file it cannot hash", function()
        local hex, message = system.sha256(folder .. "/none")
        assert.is_nil(hex)
        assert.truthy(message:find(folder .. "/none", 1, true), message)
        hex, message = system.sha256(folder)
        assert.is_nil(hex)
        assert.truthy(message:find(folder, 1, true), message)
    end)

    it("writes a file whole, over an older one too, and leaves nothing else", function()
        local path, bytes = folder .. "/file", "a\0b\n" .. ("x"):rep(100000)
        assert.is_true(system.write(path, "before"))
        assert.is_true(system.write(path, bytes))
        assert.equal(bytes, get(path))
        assert.equal("file", names())
        assert.is_true(system.write(path, ""))
        assert.equal("", get(path))
    end)

    it("says where it cannot write, and leaves nothing", function()
        local done, message = system.write(folder .. "/none/file", "x")
        assert.is_nil(done)
        assert.truthy(message:find("/none/file", 1, true), message)
        assert(lfs.mkdir(folder .. "/taken"))
        put("taken/inside", "kept")
        done, message = system.write(folder .. "/taken", "x")
        assert.is_nil(done)
        assert.truthy(message:find("/taken", 1, true), message)
        assert.equal("taken", names())
        assert.equal("kept", get(folder .. "/taken/inside"))
    end)

    it("gives a file another's name at once", function()
        local from, to = put("from", "new"), put("to", "old")
        assert.is_true(system.replace(from, to))
        assert.equal("new", get(to))
        assert.equal("to", names())
        local done, message = system.replace(from, to)
        assert.is_nil(done)
        assert.truthy(message:find(from, 1, true), message)
        assert.equal("new", get(to))
    end)

    it("has a clock that goes forward in seconds", function()
        local start = system.clock()
        os.execute("sleep 0.2")
        local took = system.clock() - start
        -- They are seconds, not thousandths, and the machine may be busy.
        assert.is_true(took >= 0.2 and took < 100, tostring(took))
    end)

    it("makes names fit to be shown", function()
        local C1, override = "\u{9b}31m", "\u{202e}gpj"
        assert.equal("a?31m?gpj??\u{e9}", system.printable("a" .. C1 .. override .. "\n\xff\u{e9}"))
        assert.equal("a\n\tb??", system.printable("a\n\tb\27\0", true))
        local long = ("x"):rep(5000) .. "\t"
        assert.equal(("x"):rep(5000) .. "?", system.printable(long)) -- not on Lua's own buffer
        assert.equal(long, system.printable(long, true))
        local _, problem = pcall(fail.failed, "%s", C1 .. override)
        assert.equal("?31m?gpj", problem.message)
        assert.equal("a\u{fffd}31m\u{fffd}gpj&lt;\u{e9}\u{5d0}",
            html.text("a" .. C1 .. override .. "<\u{e9}\u{5d0}"))
        assert.equal("'?31m?gpj\u{e9}'", plot.quote(C1 .. override .. "\u{e9}"))
        local shown <close> = progress.start("steps", 2)
        assert.falsy(shown:line(C1 .. override):find("\u{9b}", 1, true))
    end)

    it("compares names in Unicode's NFC", function()
        assert.equal("caf\u{e9}", system.compose("cafe\u{301}"))
        assert.equal("caf\u{e9}", system.compose("caf\u{e9}"))
        assert.equal("\u{ac00}", system.compose("\u{1100}\u{1161}")) -- Hangul, as macOS parts it
        for _, same in ipairs {"", "plain", "caf\xe9", "a\0b"} do
            assert.equal(same, system.compose(same))
        end
    end)

    it("knows that a file is no terminal, and a width all the same", function()
        assert.is_false(system.isatty(0))
        assert.is_true(math.type(system.columns()) == "integer" and system.columns() > 0)
        assert.is_false(system.interrupted())
    end)

    it("counts the core's memory", function()
        local tensor = require "advrt.core.tensor"
        local before = system.memory()
        local x = tensor.new {1000}
        local during = system.memory()
        assert.is_true(during.in_use - before.in_use >= 4000)
        assert.is_true(during.peak >= during.in_use)
        assert.is_true(during.takes > before.takes)
        assert.equal(1000, x:numel())
    end)

    it("starts a program without a shell, whose words are nobody's to read", function()
        local file <close> = assert(system.spawn {"printf", "%s|", "a b", "$HOME", "`x`", "", "'"})
        assert.equal("a b|$HOME|`x`||'|", file:read "a")
        assert.same({true, "exit", 0}, {file:close()})
    end)

    it("gives a program's variables the changes asked for, and keeps its own", function()
        local before = os.getenv "HOME"
        local file <close> = assert(system.spawn({"env"},
            {HOME = "/own home", ADVRT_SPAWN = "new", PATH = false}))
        local text = "\n" .. file:read "a"
        assert.truthy(text:find("\nHOME=/own home\n", 1, true), text)
        assert.truthy(text:find("\nADVRT_SPAWN=new\n", 1, true), text)
        assert.falsy(text:find("\nPATH=", 1, true), text)
        assert.equal(before, os.getenv "HOME")
        assert.is_nil(os.getenv "ADVRT_SPAWN")
    end)

    it("says how a program ended, and reads its errors too", function()
        for code, wanted in pairs {["echo out; echo err >&2; exit 3"] = {"out\nerr\n", "exit", 3},
            ["kill -KILL $$"] = {"", "signal", 9}, [":"] = {"", "exit", 0}} do
            local file = assert(system.spawn {"sh", "-c", code})
            local text = file:read "a"
            local _, how, status = file:close()
            assert.same(wanted, {text, how, status})
        end
    end)

    it("says why a program does not start", function()
        assert.same({nil, "/nowhere/program: No such file or directory", 2},
            {system.spawn {"/nowhere/program"}})
        assert.same({nil, "/etc/passwd: Permission denied", 13}, {system.spawn {"/etc/passwd"}})
        for _, words in ipairs {{}, {1 > 0}, {"sh", {}}} do assert.is_false(pcall(system.spawn, words)) end
        assert.is_false(pcall(system.spawn, "sh"))
    end)

    it("tells where it is and what it stands on", function()
        local o = system.options
        assert.equal("file", lfs.attributes(o.executable, "mode"))
        assert.equal("file", lfs.attributes(o.root .. "/lua/advrt/support/fail.lua", "mode"))
        assert.equal("/", o.root:sub(1, 1))
        assert.matches("^[23]%.%d+%.%d+$", system.onednn_version)
        assert.truthy(({["x86-64"] = true, avx2 = true, avx512 = true})[o.isa])
    end)
end)
