--- What several specs need: temporary folders, files, commands as a user types them, and small nets.

local csv = require "advrt.support.csv"
local lfs = require "lfs"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local support = {}

function support.quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

--- A new empty folder; removed by support.remove.
function support.folder()
    local path = os.tmpname()
    os.remove(path)
    assert(lfs.mkdir(path))
    return path
end

function support.remove(path) os.execute("rm -rf " .. support.quote(path)) end

function support.read(path)
    local file = assert(io.open(path, "rb"))
    local bytes = file:read("a")
    file:close()
    return bytes
end

function support.write(path, text)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
    return path
end

--- The rows of a CSV file as tables by column; numbers where they are.
function support.rows(path)
    local records = assert(csv.parse(support.read(path)))
    local rows = {}
    for i = 2, #records do
        rows[i - 1] = {}
        for k, name in ipairs(records[1]) do
            rows[i - 1][name] = tonumber(records[i][k]) or records[i][k]
        end
    end
    return rows
end

function support.exists(path) return lfs.attributes(path, "mode") ~= nil end

--- Sorted names in a folder.
function support.list(path)
    local names = {}
    for name in lfs.dir(path) do
        if name ~= "." and name ~= ".." then names[#names + 1] = name end
    end
    table.sort(names)
    return names
end

--- The files in a run's folder, and in its examples/, with a digest of each; what tells of time or
-- place is left out.
function support.contents(dir)
    local found = {}
    for _, folder in ipairs {"", "examples/"} do
        local there = lfs.attributes(dir .. "/" .. folder, "mode") == "directory"
        for _, name in ipairs(there and support.list(dir .. "/" .. folder) or {}) do
            local path = dir .. "/" .. folder .. name
            local text = lfs.attributes(path, "mode") == "file" and support.read(path) or ""
            if name == "report.html" then text = "" end
            if name == "attacks.csv" then -- passes and seconds
                text = text:gsub((",[^,\n]*"):rep(5) .. "\n", "\n")
            end
            if name == "table1.csv" then text = text:gsub("[^,\n]*\n", "\n") end
            if name == "attacks.tex" then text = text:gsub(("&[^&\n]*"):rep(5) .. "\n", "\n") end
            if name == "table1.tex" then text = text:gsub("[^&\n]*\n", "\n") end
            if name == "run.json" then text = text:gsub('"seconds".*', ""):gsub('"out"[^\n]*', "") end
            found[folder .. name] = system.digest(text)
        end
    end
    return found
end

--- Gives the run.json of a run's folder the checksums that its files have now, and its own: of what was
-- changed by force, and with care.
function support.reseal(dir)
    local text = support.read(dir .. "/run.json"):gsub('"([^"\n]+)":"%x+"', function(name)
        local path = dir .. "/" .. name
        local is_file = lfs.attributes(path, "mode") == "file"
        return is_file and ('"%s":"%s"'):format(name, system.sha256(path)) or nil
    end)
    local body = text:match('^(.*),\n  "sha256":"%x+"\n}\n$')
    support.write(dir .. "/run.json", ('%s,\n  "sha256":"%s"\n}\n'):format(body, system.digest(body)))
end

--- Fails unless the files of these names in two folders are the same.
function support.same_files(a, b, names)
    for _, name in ipairs(names) do
        assert(support.read(a .. "/" .. name) == support.read(b .. "/" .. name),
            ("%s differs in %s and %s"):format(name, a, b))
    end
end

--- A folder of the bundled net's first n images, with their labels and classes.
function support.images(path, n)
    local bundled = system.options.root .. "/nets/fashion-images/"
    assert(lfs.mkdir(path))
    local lines = {}
    for line in io.lines(bundled .. "labels.csv") do
        if #lines <= n then lines[#lines + 1] = line end
    end
    for i = 2, #lines do
        local file = lines[i]:match("^(.-),")
        support.write(path .. "/" .. file, support.read(bundled .. file))
    end
    support.write(path .. "/labels.csv", table.concat(lines, "\n") .. "\n")
    support.write(path .. "/classes.txt", support.read(bundled .. "classes.txt"))
    return path
end

--- What is put before a command that is to run with build/tests/faults.so; settings: what its
-- environment holds, {ADVRT_FAULT = "EIO:3"}.
function support.faults(settings)
    local library = system.options.executable:match("^(.*)/") .. "/tests/faults.so"
    assert(support.exists(library), library .. " is not there: make programs")
    -- advrt starts anew where it may set the variable; the library would not be there again.
    local words = {"GOMP_SPINCOUNT=1000",
        "ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0",
        "LSAN_OPTIONS=print_suppressions=0:suppressions=" .. support.quote(system.options.root
            .. "/tests/faults/leaks")}
    for name, value in pairs(settings) do words[#words + 1] = name .. "=" .. support.quote(value) end
    return "env " .. table.concat(words, " ") .. " LD_PRELOAD=" .. support.quote(library)
end

--- What is put before a command that is to be stopped from within, at the point that tests/stop.lua takes
-- these settings for.
function support.stop(settings)
    local parts = {}
    for name, value in pairs(settings) do parts[#parts + 1] = ("%s = %q"):format(name, value) end
    -- Not by dofile, which would make the file one of those that the run depends on.
    return "env LUA_INIT=" .. support.quote(("load(io.open(%q):read 'a') () {%s}"):format(
        system.options.root .. "/tests/stop.lua", table.concat(parts, ", ")))
end

--- Status, standard output and error of a shell's command; 128 and the number of a signal that ended it.
function support.shell(command)
    local folder <close> = setmetatable({path = support.folder()},
        {__close = function(self) support.remove(self.path) end})
    local out, err = folder.path .. "/out", folder.path .. "/err"
    local _, kind, status = os.execute(("{ %s\n} </dev/null >%s 2>%s"):format(command, out, err))
    assert(kind == "exit", "the shell itself was ended by a signal")
    return status, support.read(out), support.read(err)
end

--- All that a shell's command says, which has to succeed.
function support.sure(command)
    local status, out = support.shell("exec 2>&1\n" .. command)
    assert(status == 0, ("%s\nstatus %d\n%s"):format(command, status, out))
    return out
end

--- Runs this advrt with the words as its arguments, as support.shell has it. `environment` is put before
-- the command as it is.
function support.advrt(words, environment)
    local parts = {environment or "", support.quote(system.options.executable)}
    for _, word in ipairs(words) do parts[#parts + 1] = support.quote(word) end
    return support.shell(table.concat(parts, " "))
end

--- A linear net in Lua with advrt.net's methods, z = A x + b in double: what attacks do can be
-- checked by hand. rows: K rows of C*H*W numbers; input: {C,H,W}.
function support.linear(rows, bias, input)
    local g = {classes = #rows, input = input}
    local D = #rows[1]
    local function logits(x, z)
        local N = x:size(1)
        z = z or tensor.new {N, #rows}
        local flat = x:reshape {N, D}
        for i = 1, N do
            for k, row in ipairs(rows) do
                local sum = bias[k]
                for d = 1, D do sum = sum + row[d] * flat:get(i, d) end
                z:set(sum, i, k)
            end
        end
        return z
    end
    function g:forward(x, z) return logits(x, z) end
    function g:trace(x, z)
        self.traced = true
        return logits(x, z)
    end
    function g:backward(dz, q)
        assert(self.traced, "backward without a trace")
        self.traced = false
        local N = dz:size(1)
        q = q or tensor.new {N, table.unpack(input)}
        local flat = q:reshape {N, D}
        for i = 1, N do
            for d = 1, D do
                local sum = 0
                for k, row in ipairs(rows) do sum = sum + row[d] * dz:get(i, k) end
                flat:set(sum, i, d)
            end
        end
        return q
    end
    return g
end

--- A real net of one linear layer with these weights.
function support.linear_net(rows, bias, input)
    local net = require "advrt.net"
    local g = assert(net.build({classes = #rows, input = input,
        build = function(b, x) return b:linear(x, "fc", #rows) end}, {init = "he"}))
    local state = g:state()
    state["fc.weight"]:copy(tensor.from(rows))
    state["fc.bias"]:copy(tensor.from(bias))
    return g
end

--- Fails where ||got - wanted|| is more than `limit` times ||wanted||, of tensors; `what` names them.
function support.near(got, wanted, limit, what)
    local d = got - wanted
    local apart = math.sqrt((d * d):sum() / (wanted * wanted):sum())
    assert(apart <= limit, ("%s: %g, at most %g allowed"):format(what, apart, limit))
end

--- Whether this advrt is one under AddressSanitizer, which takes several times as long and whose shadow
-- needs more memory than any bound.
function support.sanitized() return support.read("/proc/self/maps"):find("libasan", 1, true) ~= nil end

--- Runs `words`, which begin the run in `dir` or go on with it, and kills it (SIGKILL) at random instants
-- of the `duration` seconds that it takes, until it was killed `kills` times; ADVRT_KILLS=100 kills that
-- often. A run that ends meanwhile must hold what the one in `whole` does, and the next one begins.
function support.kill_at_random(words, dir, whole, duration, kills)
    local seed, wanted, killed = os.time(), tonumber(os.getenv "ADVRT_KILLS") or kills, 0
    math.randomseed(seed)
    for try = 1, math.huge do
        if killed == wanted then break end
        assert(try <= 10 * wanted, ("%d of %d runs were killed (random seed %d)"):format(killed, try, seed))
        local status, _, err = support.advrt(words, ("timeout -s KILL %.3f"):format(
            math.max(0.05, 1.1 * math.random() * duration)))
        assert(status == 0 or status == 137, ("%s (random seed %d)"):format(err, seed))
        if status == 137 then killed = killed + 1 end
        -- Without its journal it is finished, whatever came then.
        if support.exists(dir .. "/records.msgpack") and not support.exists(dir .. "/records.part") then
            require "luassert".same(support.contents(whole), support.contents(dir))
            support.remove(dir)
        end
    end
end

return support
