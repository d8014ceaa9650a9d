-- advrt as a user meets it: options, exit statuses, messages.

local lfs = require "lfs"
local system = require "advrt.core.system"

local advrt = system.options.executable
local here = lfs.currentdir()
local folder

local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

local function read(path)
    local f = assert(io.open(path, "rb"))
    local bytes = f:read("a")
    f:close()
    return bytes
end

local function write(name, text)
    local f = assert(io.open(folder .. "/" .. name, "wb"))
    f:write(text)
    f:close()
    return folder .. "/" .. name
end

-- Runs a shell command in which ADVRT is the program; returns status, standard output and error.
local function shell(command)
    local out, err = folder .. "/out", folder .. "/err"
    local _, kind, status = os.execute(("ADVRT=%s; { %s ; } >%s 2>%s"):format(
        quoted(advrt), command, quoted(out), quoted(err)))
    assert.equal("exit", kind)
    return status, read(out), read(err)
end

local function run(...)
    local words = {'"$ADVRT"'}
    for _, word in ipairs {...} do words[#words + 1] = quoted(word) end
    return shell(table.concat(words, " ") .. " </dev/null")
end

-- Lua code that lets the signal come soon, as from elsewhere; what follows does not end by itself.
local SOON = "io.popen('{ sleep 0.1; kill -%s $PPID; } >&- 2>&- &'):close() "

-- One line for a person, without the way that led there.
local function one_line(text, wanted)
    assert.matches("^advrt: [^\n]+\n$", text)
    assert.truthy(text:find(wanted, 1, true), ("%q is not in %q"):format(wanted, text))
end

describe("the command line", function()
    before_each(function()
        folder = os.tmpname()
        os.remove(folder)
        assert(lfs.mkdir(folder))
    end)
    after_each(function()
        lfs.chdir(here)
        os.execute("rm -rf " .. quoted(folder))
    end)

    it("tells its version and its options", function()
        local status, out = run("--version")
        assert.equal(0, status)
        assert.matches("^advrt %d+%.%d+%.%d+ %(Lua 5%.4%.%d+, oneDNN 2%.%d+%.%d+%)\n$", out)
        status, out = run("--help")
        assert.equal(0, status)
        assert.is_true(#system.program_options >= 9)
        local plain = out:gsub("%s+", " ")
        for _, option in ipairs(system.program_options) do
            local head = (option.short and option.short .. ", " or "") .. option.name
                .. (option.value and " " .. option.value or "")
            assert.truthy(out:find("\n  " .. head .. "[ \n]") or out:find("\n  " .. head, 1, true), head)
            local text = option.help .. (option.usual and " (default: " .. option.usual or "")
            assert.truthy(plain:find(text, 1, true), text)
            assert.truthy(plain:find(option.environment or "", 1, true))
            if option.short then assert.same({run(option.name)}, {run(option.short)}) end
        end
        for line in out:gmatch("[^\n]+") do assert.is_true(#line <= 96, line) end
    end)

    it("takes each option of its table, and its default, by itself and with =", function()
        local code = "io.write(tostring(require 'advrt.core.system'.options[arg[1]]))"
        for _, option in ipairs(system.program_options) do
            for _, choice in ipairs(option.key ~= "device" and option.choices or {}) do
                local status, out, err = run(option.name, choice, "-e", code, "--", option.key)
                if status == 0 then assert.equal(choice, out) else one_line(err, option.name) end
                assert.same({run(("%s=%s"):format(option.name, choice), "-e", code, "--", option.key)},
                    {status, out, err})
                _, out = run("-e", code, "--", option.key)
                assert.equal(option.usual, out)
            end
            if not option.joined then
                local status, _, err = run(option.name .. "=1")
                assert.equal(2, status)
                one_line(err, ("there is no option '%s'"):format(option.name))
            end
        end
    end)

    it("answers a bad option with one line that names the nearest, and status 2", function()
        for given, wanted in pairs {
            ["--devcie"] = "--device", ["--thread"] = "--threads", ["--prec"] = "--precision",
            ["--plam=fast"] = "--plan", ["--verison"] = "--version", ["-E"] = "-e"
        } do
            local status, out, err = run(given, "script.lua")
            assert.equal(2, status)
            assert.equal("", out)
            one_line(err, "'" .. wanted .. "'")
        end
    end)

    it("answers a bad value with one line and status 2", function()
        for _, case in ipairs {
            {"cpu", "--device", "gpu"}, {"cpu", "--device", ""}, {"cuda", "--device", "cuda:x"},
            {"fast", "--plan", "fats"}, {"f32", "--precision", "fp32"}, {"1 to", "--threads", "0"},
            {"1 to", "--threads", "two"}, {"1 to", "--threads=99999999999999999999"},
            {"--threads", "--threads"}, {"-e", "-e"}
        } do
            local status, _, err = run(table.unpack(case, 2))
            assert.equal(2, status)
            one_line(err, case[1])
        end
    end)

    -- On a machine with a GPU it runs there.
    it("says in one line whether the driver or the GPU is missing that --device cuda needs", function()
        for _, device in ipairs {"cuda", "cuda:1"} do
            local status, out, err = run("--device", device, "-e", "print(1)")
            if status ~= 0 then
                assert.equal(1, status)
                assert.equal("", out)
                one_line(err, "--device " .. device .. ":")
                assert.truthy(err:find("no NVIDIA driver", 1, true) or err:find(" GPU", 1, true), err)
            end
        end
    end)

    it("says in a line what bf16 costs here, and computes in it", function()
        local code = [[local net, tensor = require "advrt.net", require "advrt.tensor"
            local g = net.load("fashion")
            local z, n = g:trace(tensor.uniform("input", {2, 1, 28, 28})), 0
            local q = g:backward(tensor.uniform("dz", {2, 10}))
            for _, v in ipairs(q:reshape{-1}:totable()) do n = n + v * v end
            print(g.precision, z:get(1, 1), n)]]
        local z, n = {}, {}
        for _, precision in ipairs {"f32", "mixed", "bf16"} do
            local status, out, err = run("--precision", precision, "-e", code)
            assert.equal(0, status)
            if precision == "f32" then assert.equal("", err) else one_line(err, "bf16") end
            local name
            name, z[precision], n[precision] = out:match("^(%S+)\t(%S+)\t(%S+)\n$")
            assert.equal(precision, name)
        end
        assert.equal(z.f32, z.mixed)
        assert.not_equal(z.f32, z.bf16)
        assert.near(tonumber(z.f32), tonumber(z.bf16), 0.05 * math.abs(tonumber(z.f32)) + 0.05)
        assert.not_equal(n.f32, n.mixed)
        assert.not_equal(n.mixed, n.bf16)
        assert.near(tonumber(n.f32), tonumber(n.mixed), 1e-2 * tonumber(n.f32))
    end)

    it("passes its options on", function()
        local code = [[local o = require "advrt.core.system".options
            print(o.device, o.threads, o.precision, o.plan, o.quiet)]]
        local status, out = run("--device", "cpu", "--threads", "3", "--plan=direct", "-q",
            "--precision", "mixed", "-e", code)
        assert.equal(0, status)
        assert.equal("cpu\t3\tmixed\tdirect\ttrue\n", out)
        status, out = run("-e", code)
        assert.equal(0, status)
        assert.matches("^cpu\t[1-9]%d*\tf32\tfast\tfalse\n$", out)
    end)

    it("runs a script with arg and ..., and finds modules beside it", function()
        write("beside.lua", "return {name = 'beside'}")
        local script = write("script.lua", [[
            print(arg[0], arg[1], arg[2], arg[-1], ...)
            print(require "beside".name, require "advrt.support.fail" ~= nil)]])
        local status, out, err = run("-q", script, "--devcie", "two words")
        assert.equal("", err)
        assert.equal(0, status)
        assert.equal(("%s\t--devcie\ttwo words\t-q\t--devcie\ttwo words\nbeside\ttrue\n"):format(script), out)
    end)

    it("lets no folder beside a script stand in for its own modules", function()
        assert(lfs.mkdir(folder .. "/advrt"))
        assert(lfs.mkdir(folder .. "/advrt/support"))
        write("advrt/support/fail.lua", "error 'the wrong one'")
        local status, out = run(write("script.lua", "print(require 'advrt.support.fail' ~= nil)"))
        assert.equal(0, status)
        assert.equal("true\n", out)
    end)

    it("runs from any working folder", function()
        write("script.lua", "print(require 'advrt.support.fail' ~= nil, ...)")
        assert(lfs.chdir(folder))
        for _, script in ipairs {"script.lua", "./script.lua"} do
            local status, out = run(script, "a")
            assert.equal(0, status)
            assert.equal("true\ta\n", out)
        end
    end)

    it("is found through a link, and says so where its own files are missing", function()
        assert(lfs.link(advrt, folder .. "/link", true))
        local script = " -e 'print(require \"advrt.support.fail\" ~= nil)'"
        local status, out = shell(quoted(folder .. "/link") .. script)
        assert.equal(0, status)
        assert.equal("true\n", out)
        -- two folders down, so that nothing above the scratch folder counts
        local copy = folder .. "/far/away/advrt"
        local _, err
        status, _, err = shell(('mkdir -p "$(dirname %s)" && cp "$ADVRT" %s && %s -e "print(1)"')
            :format(quoted(copy), quoted(copy), quoted(copy)))
        assert.equal(1, status)
        one_line(err, "Lua files")
    end)

    it("uses the share/advrt of where it is installed", function()
        assert(lfs.mkdir(folder .. "/bin"))
        assert(lfs.mkdir(folder .. "/share"))
        assert(lfs.mkdir(folder .. "/share/advrt"))
        local root = folder .. "/share/advrt"
        local status, out = shell(('cp "$ADVRT" %s && cp -r %s %s && %s -e %s'):format(
            quoted(folder .. "/bin/advrt"), quoted(system.options.root .. "/lua"), quoted(root),
            quoted(folder .. "/bin/advrt"),
            quoted("print(require 'advrt.core.system'.options.root, " ..
                "package.searchpath('advrt.support.fail', package.path))")))
        assert.equal(0, status)
        assert.equal(("%s\t%s/lua/advrt/support/fail.lua\n"):format(root, root), out)
    end)

    it("runs LUA_INIT first, code or a file, and honours LUA_PATH and LUA_CPATH", function()
        local code = [["$ADVRT" -e 'print(x, ...)' -- a]]
        local _, out = shell("LUA_INIT='x = 1 assert(... == nil)' " .. code)
        assert.equal("1\ta\n", out)
        _, out = shell("LUA_INIT='x = 1' LUA_INIT_5_4='x = 2' " .. code)
        assert.equal("2\ta\n", out)
        _, out = shell(("LUA_INIT=@%s %s"):format(quoted(write("init.lua", "x = 3")), code))
        assert.equal("3\ta\n", out)
        write("mine.lua", "return 'mine'")
        _, out = shell(([[LUA_PATH='%s/?.lua' LUA_CPATH='/elsewhere/?.so;;' "$ADVRT" -e '
            print(require "mine", require "advrt.support.fail" ~= nil,
                package.cpath:match "[^;]*")']]):format(folder))
        assert.equal("mine\ttrue\t/elsewhere/?.so\n", out)
    end)

    it("ends where LUA_INIT fails", function()
        local status, out, err = shell([[LUA_INIT='error "broken"' "$ADVRT" -e 'print(1)']])
        assert.equal(1, status)
        assert.equal("", out)
        one_line(err, "LUA_INIT:1: broken")
        for text, wanted in pairs {["x = = 1"] = "LUA_INIT:1:", ["@/none/init.lua"] = "/none/init.lua"} do
            status, out, err = shell(("LUA_INIT=%s \"$ADVRT\" -e 'print(1)'"):format(quoted(text)))
            assert.equal(1, status)
            assert.equal("", out)
            one_line(err, wanted)
        end
    end)

    it("loads Lua as text alone, wherever it comes from", function()
        local binary = string.dump(function() return {} end)
        local path = write("compiled.lua", binary)
        local parts = {binary}
        local function refused(result, message)
            assert.falsy(result)
            assert.truthy(message:find("attempt to load a binary chunk", 1, true), message)
        end
        refused(load(binary))
        refused(load(binary, "name", "b"))
        refused(load(function() return table.remove(parts) end, "name", nil, {}))
        local function refused_by_name(result, message)
            refused(result, message)
            assert.equal(1, message:find(path .. ": ", 1, true), message)
        end
        refused_by_name(loadfile(path))
        refused_by_name(loadfile(path, "b", {}))
        refused_by_name(pcall(dofile, path))
        refused_by_name(require "advrt.net".load(path))
        refused_by_name(require "advrt.loss".load(path))
        local before = package.path
        package.path = folder .. "/?.lua;" .. before
        refused(pcall(require, "compiled"))
        package.path = before
        for _, command in ipairs {"\"$ADVRT\" - <%s", "LUA_INIT=@%s \"$ADVRT\" -e ''",
            "\"$ADVRT\" -e \"$(tr -d '\\0' <%s)\"", "\"$ADVRT\" experiments/evaluate.lua --net %s",
            "\"$ADVRT\" experiments/equal_multiplier.lua --require %s"} do
            local status, _, err = shell(command:format(quoted(path)))
            assert.equal(1, status)
            one_line(err, "binary chunk")
        end
    end)

    it("loads text as Lua itself does", function()
        write("mine.lua", "return ...")
        assert.equal(3, load("return a", "name", "t", {a = 3})())
        local f, message = load("x = = 1", "=name")
        assert.is_nil(f)
        assert.matches("^name:1: ", message)
        assert.is_nil(loadfile(folder .. "/none.lua"))
        assert.same({true, nil, "reader"}, {pcall(load, function() error("reader", 0) end)})
        local before = package.path
        package.path = folder .. "/?.lua"
        local name, path = require "mine"
        local ok, problem = pcall(require, "mine.none")
        package.path = before
        assert.equal("mine", name)
        assert.equal(folder .. "/mine.lua", path)
        assert.is_false(ok)
        assert.truthy(problem:find("\n\tno file '" .. folder .. "/mine/none.lua'\n", 1, true), problem)
        local yielding = coroutine.wrap(function() return dofile(folder .. "/yield.lua") end)
        write("yield.lua", "return 1, coroutine.yield(2)")
        assert.equal(2, yielding())
        assert.same({1, 3}, {yielding(3)})
    end)

    it("finds its own experiments from any folder, behind what is there as given", function()
        assert(lfs.chdir(folder))
        for _, script in ipairs {"experiments/compare.lua", "compare.lua", "compare"} do
            local status, out = run(script, "--help")
            assert.equal(0, status)
            assert.matches("\nUsage: compare.lua ", out)
        end
        write("compare", "print(...)")
        local _, out = run("compare", "--help")
        assert.equal("--help\n", out)
    end)

    it("takes a script from standard input", function()
        local status, out = shell([[echo 'local a, b = ... print(arg[0], a, b)' | "$ADVRT" - x y]])
        assert.equal(0, status)
        assert.equal("-\tx\ty\n", out)
    end)

    it("runs -e before the script, alone where there is none, with arguments after --", function()
        local script = write("script.lua", "print('script', x, ...)")
        local status, out = run("-e", "x = 1", "-e", "x = x + 1", script, "a")
        assert.equal(0, status)
        assert.equal("script\t2\ta\n", out)
        status, out = run("-e", "print(arg[1], arg[2], ...)", "--", "a", "-e")
        assert.equal(0, status)
        assert.equal("a\t-e\ta\t-e\n", out)
        status, out = run("--", script)
        assert.equal(0, status)
        assert.equal("script\tnil\n", out)
    end)

    it("gives a mistake its position and traceback, and status 1", function()
        local script = write("script.lua",
            "local function deep()\n  local x = nil\n  return x.y\nend\ndeep()\n")
        local status, out, err = run(script)
        assert.equal(1, status)
        assert.equal("", out)
        assert.truthy(err:find(script .. ":3: attempt to index a nil value", 1, true), err)
        assert.truthy(err:find("stack traceback:", 1, true))
        assert.truthy(err:find(script .. ":5: in main chunk", 1, true), err)
    end)

    it("gives what can be expected to fail one line and its own status", function()
        for call, wanted in pairs {
            ["fail('no file %q', 'a\\nb')"] = 1, ["fail.failed('it broke')"] = 1,
            ["fail.option('bad --x')"] = 2, ["fail.interrupted()"] = 130
        } do
            local status, _, err = run("-e", "local fail = require 'advrt.support.fail' " .. call)
            assert.equal(wanted, status)
            one_line(err, "")
        end
    end)

    it("tells failures from other errors", function()
        local fail = require "advrt.support.fail"
        local ok, failure = pcall(fail.option, "bad %d%%", 7)
        assert.is_false(ok)
        assert.is_true(fail.is(failure))
        assert.equal("bad 7%", failure.message)
        assert.equal("bad 7%", tostring(failure))
        assert.equal(2, failure.status)
        assert.is_false(fail.is {message = "x", status = 2})
        assert.is_false(fail.is "x")
    end)

    it("reports an error that is no string", function()
        local status, _, err = run("-e", "error({})")
        assert.equal(1, status)
        assert.matches("^advrt: %(error object is a table value%)\n", err)
        status, _, err = run("-e", "error(setmetatable({}, {__tostring = function() return 'odd' end}))")
        assert.equal(1, status)
        assert.matches("^advrt: odd\n", err)
    end)

    it("answers a missing, unreadable, misspelt or compiled script with one line", function()
        local status, _, err = run(folder .. "/none.lua")
        assert.equal(1, status)
        one_line(err, "none.lua")
        status, _, err = run(folder)
        assert.equal(1, status)
        one_line(err, folder)
        status, _, err = run(write("bad.lua", "x = = 1"))
        assert.equal(1, status)
        one_line(err, "bad.lua:1:")
        status, _, err = run(write("attempt.lua", "x x"))
        assert.equal(1, status)
        assert.equal(1, select(2, err:gsub("attempt%.lua", "")), err)
        status, _, err = run(write("compiled.lua", string.dump(function() return 1 end)))
        assert.equal(1, status)
        one_line(err, "compiled.lua: attempt to load a binary chunk")
    end)

    it("does not take a full disk for success", function()
        for _, code in ipairs {"print(1)", "io.write(('x'):rep(1e6))", "print(1) os.exit(0)",
                               "print(1) os.exit(true, true)"} do
            local status, _, err = shell(([["$ADVRT" -e %s >/dev/full]]):format(quoted(code)))
            assert.equal(1, status)
            one_line(err, "standard output")
        end
        local status, _, err = shell([["$ADVRT" --help >/dev/full]])
        assert.equal(1, status)
        one_line(err, "No space left")
    end)

    it("says so where a file comes to its limit", function()
        local status, _, err = shell(([[(ulimit -f 1; "$ADVRT" -e %s)]]):format(quoted(([[
            local t = require "advrt.tensor"
            assert(t.save("%s/big.safetensors", {a = t.new {1024}}))]]):format(folder))))
        assert.equal(1, status)
        assert.matches("^advrt: [^\n]*big.safetensors: File too large\n", err)
        assert.is_nil(lfs.attributes(folder .. "/big.safetensors", "mode"))
    end)

    it("takes no folder and no pipe for a file of text in a folder of images", function()
        assert(lfs.mkdir(folder .. "/images"))
        local image = require "advrt.core.image"
        assert(image.save(folder .. "/images/a.png", require "advrt.tensor".new({1, 28, 28}, "u8")))
        local path = folder .. "/images/labels.csv"
        for _, case in ipairs {{"mkdir", "is a directory"}, {"mkfifo", "is no regular file"}} do
            local command = ([[rm -rf %s; %s %s; timeout 60 "$ADVRT" evaluate --images %s/images]]):format(
                quoted(path), case[1], quoted(path), quoted(folder))
            local status, _, err = shell(command)
            assert.equal(1, status)
            one_line(err, path .. ": " .. case[2])
        end
    end)

    -- Runs a command that will wait for what it is to read from "$FIFO", fed there by `feed`, and ends it by
    -- SIGTERM once it has run READY and is in that state, "S" for asleep.
    local READY = 'io.open(os.getenv "READY", "w"):close()'
    local function ended_reading(command, feed, state)
        os.remove(folder .. "/fifo")
        os.remove(folder .. "/ready")
        return shell(([[FIFO=%s/fifo READY=%s/ready; export READY; mkfifo "$FIFO"; %s & pid=$!; %s
            for i in $(seq 3000); do
                [ -e "$READY" ] && grep -q ') %s' /proc/$pid/stat && break
                sleep 0.01
            done
            kill -TERM $pid; wait $pid]]):format(folder, folder, command, feed, state))
    end

    it("is ended by a signal while it waits for its script", function()
        local status, _, err = ended_reading("LUA_INIT='" .. READY .. [[' "$ADVRT" "$FIFO"]], "", "S")
        assert.equal(143, status)
        one_line(err, "ended by SIGTERM")
    end)

    it("ends quietly when its reader has seen enough", function()
        local status, out, err = shell([[timeout 20 "$ADVRT" -e 'while true do print(1) end' | head -n 1]])
        assert.equal(0, status)
        assert.equal("1\n", out)
        assert.equal("", err)
    end)

    it("ends an interrupted script with one line and status 130", function()
        local status, _, err = run("-e", SOON:format "INT" .. "while true do end")
        assert.equal(130, status)
        one_line(err, "interrupted")
        -- A script may clean up, and learns of it.
        local out
        status, out = run("-e", SOON:format "INT" .. [[
            local ok, failure = pcall(function() while true do end end)
            print(ok, failure.status, require "advrt.core.system".interrupted())]])
        assert.equal(0, status)
        assert.equal("false\t130\ttrue\n", out)
    end)

    it("ends at SIGTERM and SIGHUP with their statuses, but where they are ignored", function()
        for name, wanted in pairs {TERM = 143, HUP = 129} do
            local status, _, err = run("-e", SOON:format(name) .. "while true do end")
            assert.equal(wanted, status)
            one_line(err, "ended by SIG" .. name)
            local out
            status, out = shell(([[trap '' %s; "$ADVRT" -e '
                os.execute "kill -%s $PPID"
                for _ = 1, 1e6 do end
                print(require "advrt.core.system".interrupted())']]):format(name, name))
            assert.equal(0, status)
            assert.equal("false\n", out)
        end
    end)

    it("ends a session at SIGTERM, a read one and one that computes", function()
        for more, state in pairs {[""] = "S", [" while true do end"] = "R"} do
            local status, _, err = ended_reading([["$ADVRT" <"$FIFO"]],
                ([[exec 3>"$FIFO"; echo '%s%s' >&3]]):format(READY, more), state)
            assert.equal(143, status)
            one_line(err, "ended by SIGTERM")
        end
    end)

    it("is ended by a second interrupt where the first is held up", function()
        local status = run("-e", [[
            local system = require "advrt.core.system"
            io.popen("for i in $(seq 100); do kill -INT $PPID || exit; sleep 0.3; done 2>&- >&- &"):close()
            while true do pcall(function() while not system.interrupted() do end end) end]])
        assert.equal(130, status)
    end)

    it("holds a session on standard input", function()
        local status, out, err = shell(
            [[printf '1 + 1\nx = 3\nfor i = 1, 2 do\nprint(i)\nend\nx, nil\n' | "$ADVRT"]])
        assert.equal("", err)
        assert.equal(0, status)
        assert.equal("2\n1\n2\n3\tnil\n", out)
    end)

    it("shows no values behind ;, helps and tells the time in a session without a terminal", function()
        local status, out, err = shell([[printf '1;\nx = tensor.from{1, 3};\nx\n%s\n%s\n%s\n%s' \
            '? image.show' ':time' 'local kept = 4' 'kept -- and a remark' | "$ADVRT"]])
        assert.equal("", err)
        assert.equal(0, status)
        assert.matches("^tensor f32 %[2%] in 1 .. 3, 0 NaN\n  1  3\nimage%.show%(x, path%)\n.*" ..
            "every command is timed\n%[0%.%d+ s%]\n4\n%[0%.%d+ s%]\n$", out)
    end)

    it("answers who asks for help or the end in another program's words", function()
        local status, out = shell([[printf 'help\nquit()\nexit\nhelp = 3\nhelp\n' | "$ADVRT"]])
        assert.equal(0, status)
        assert.matches("^(%? lists what [^\n]*Ctrl%-D ends the session\n)%1%1" .. "3\n$", out)
    end)

    it("says where image.show has written", function()
        local status, out = shell(([[echo 'image.show(tensor.uniform("x", {3, 1, 4, 5}), "%s/shown.png")' \
            | "$ADVRT"]]):format(folder))
        assert.equal(0, status)
        assert.equal(folder .. "/shown.png: 10 x 8 pixels\n", out)
        local image = require "advrt.image"
        local x = require "advrt.tensor".uniform("x", {3, 1, 4, 5})
        local shown, third = assert(image.load(folder .. "/shown.png"))[1], x:image_u8(3)[1]
        for h = 1, 4 do
            for w = 1, 5 do
                assert.equal(x:image_u8(1)[1]:get(h, w), shown:get(h, w))
                assert.equal(x:image_u8(2)[1]:get(h, w), shown:get(h, w + 5))
                assert.equal(third:get(h, w), shown:get(h + 4, w))
                assert.equal(0, shown:get(h + 4, w + 5))
            end
        end
        local wrong_ones = {"3", "tensor.new{2, 2, 4, 5}", "tensor.new({4, 5}, 'f64')", "tensor.new{0, 3}"}
        for _, wrong in ipairs(wrong_ones) do
            local _, _, err = shell(([[echo "image.show(%s)" | "$ADVRT"]]):format(wrong))
            assert.matches("^advrt: stdin:1: bad argument #1 to 'show'", err)
        end
        local _, _, err = shell([[echo 'image.show(tensor.new{2, 2}, "/none/x.png")' | "$ADVRT"]])
        one_line(err, "/none/x.png")
    end)

    it("keeps a session alive after an error, and tells in its status", function()
        local status, out, err = shell([[printf 'error("b")\n5\nx = = 1\n6\n' | "$ADVRT"]])
        assert.equal(1, status)
        assert.equal("5\n6\n", out)
        assert.truthy(err:find("advrt: stdin:1: b\n", 1, true), err)
        assert.falsy(err:find("repl.lua", 1, true), err)
    end)

    it("goes on with a session after code or a script where -i asks for it", function()
        local script = write("script.lua", "x = 40")
        for _, first in ipairs {"-e 'x = 40'", quoted(script)} do
            local words = first:sub(1, 2) == "-e" and first .. " -i" or "-i " .. first
            local status, out = shell([[echo 'x + 2' | "$ADVRT" ]] .. words)
            assert.equal(0, status)
            assert.equal("42\n", out)
        end
    end)

    it("prompts and greets on a terminal alone", function()
        if shell("script -qec true /dev/null") ~= 0 then pending("no terminal can be had here") end
        local status, out = shell([[printf 'x = 1 +\n2\nx\n\004' | TERM=dumb script -qec "$ADVRT" /dev/null]])
        assert.equal(0, status)
        assert.matches("Ctrl%-D ends the session", out)
        assert.matches("\n> >> > 3\r?\n", out)
    end)

    it("warns of an error in a finaliser", function()
        local status, _, err = run("-e",
            "setmetatable({}, {__gc = function() error 'lost' end}) collectgarbage()")
        assert.equal(0, status)
        assert.truthy(err:find("lost", 1, true), err)
    end)
end)
