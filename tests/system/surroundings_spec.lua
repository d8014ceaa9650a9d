-- advrt and its tests among what users have around them: folders of any name, files of other programs in
-- the home folder, variables that other programs read.

local lfs = require "lfs"
local support = require "tests.support"
local system = require "advrt.core.system"

local quote, sure = support.quote, support.sure
local root, build = system.options.root, system.options.executable:match("^(.*)/")
local folder

describe("an installation in a folder of any name", function()
    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    for _, name in ipairs {"a;b?c", "it's \"x\" %d $HOME `true`", "two\nlines", "\255\254 latin", " -x"} do
        it(("%q"):format(name) .. " finds its own modules and those beside a script", function()
            local share = folder .. "/" .. name .. "/share/advrt"
            local bin = folder .. "/" .. name .. "/bin/advrt"
            sure(("mkdir -p %s %s && cp %s %s && ln -s %s %s %s %s"):format(quote(share),
                quote(bin:match("^(.*)/")), quote(system.options.executable), quote(bin),
                quote(root .. "/lua"), quote(root .. "/nets"), quote(root .. "/experiments"), quote(share)))
            support.write(folder .. "/" .. name .. "/beside.lua", "return 'beside'")
            local script = support.write(folder .. "/" .. name .. "/script.lua", [[
                local docs, net = require "advrt.session.docs", require "advrt.net"
                print(require "beside", net.load("fashion").name, docs.module("net").name,
                    require "advrt.loss".load "dlr")
                assert(require "advrt.core.system".options.root == arg[1], arg[1])
                local found, message = pcall(require, "none")
                local path = arg[0]:gsub("script%.lua$", "none.lua")
                assert(not found and message:find(path .. "'", 1, true), message)]])
            assert.equal("beside\tfashion\tnet\ttrue\n",
                sure(("%s %s %s"):format(quote(bin), quote(script), quote(share))))
            local said = sure(("cd %s && %s equal_multiplier --limit 1 --iterations 1 --losses ce "
                .. "--no-figures --out run"):format(quote(folder), quote(bin)))
            assert.truthy(said:find("Report: run/report.html", 1, true), said)
        end)
    end
end)

describe("a loader that is given advrt as its argument", function()
    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    it("starts it as the shell does, by any path, anew too", function()
        local loader = sure("readelf -l " .. quote(build .. "/advrt")):match("interpreter: ([^%]]+)")
        assert(lfs.link(build, folder .. "/a link", true))
        local code = quote("print(require 'advrt.core.system'.options.executable, require 'advrt.net'.load "
            .. "'fashion'.name)")
        local bound = system.options.executable:find("asan", 1, true) and "ASAN_OPTIONS=detect_leaks=0 " or ""
        for _, spinning in ipairs {"GOMP_SPINCOUNT=1000 ", "env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT "} do
            for _, path in ipairs {build .. "/advrt", folder .. "/a link/advrt", "./advrt"} do
                assert.equal(system.options.executable .. "\tfashion\n", sure(("cd %s && %s%s%s %s -e %s")
                    :format(quote(build), bound, spinning, loader, quote(path), code)))
            end
        end
    end)
end)

describe("the user's surroundings", function()
    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    it("may set Lua's paths to places without the modules that advrt needs", function()
        support.write(folder .. "/mine.lua", "return 'mine'")
        local variables = ("LUA_PATH=%s LUA_CPATH='/elsewhere/?.so'"):format(quote(folder .. "/?.lua"))
        local status, out, err = support.advrt({"-e", [[print(require "mine", require "lfs" ~= nil,
            require "argparse" ~= nil, package.cpath:match "^[^;]*")]]}, variables)
        assert.equal("", err)
        assert.equal(0, status)
        assert.equal("mine\ttrue\ttrue\t/elsewhere/?.so\n", out)
        assert.equal(0, (support.advrt({"evaluate", "--limit", "1"}, variables)))
    end)

    it("leave the pictures as they are, whatever gnuplot's own file says", function()
        local draw = [[
            local plot = require "advrt.plot"
            require "advrt.core.system".write("p.gp", plot.script("p", "", 300, 200, "", "plot [0:3] x + 1"))
            plot.draw(".", {"p"})]]
        local pictures = {}
        for i, text in ipairs {"", "set logscale\nset title 'mine'\nset tics in", "print 'hello'",
            "exit status 1", "nonsense("} do
            local home = ("%s/%d"):format(folder, i)
            assert(lfs.mkdir(home))
            support.write(home .. "/.gnuplot", text)
            local status, out, err = support.advrt({"-e", draw},
                ("cd %s && HOME=%s GNUTERM=dumb"):format(quote(home), quote(home)))
            assert.equal("0", status .. out .. err)
            pictures[i] = system.digest(support.read(home .. "/p.png") .. support.read(home .. "/p.svg"))
            assert.equal(pictures[1], pictures[i], text)
        end
    end)

    it("may have no home folder", function()
        local words = {"equal_perturbation", "--limit", "1", "--iterations", "1", "--losses", "ce", "--out",
            folder .. "/homeless"}
        local status, _, err = support.advrt(words, "env -u HOME")
        assert.equal(0, status, err)
        assert.equal(0, (support.shell("echo 1 + 1 | env -u HOME " .. quote(build .. "/advrt"))))
    end)

    it("do not reach the tests that tests/run starts", function()
        assert(lfs.mkdir(folder .. "/build"))
        assert(lfs.mkdir(folder .. "/.config"))
        assert(lfs.mkdir(folder .. "/.config/advrt"))
        assert(lfs.link(build .. "/advrt", folder .. "/build/advrt", true))
        support.write(folder .. "/.gnuplot", "exit status 1")
        support.write(folder .. "/.config/advrt/init.lua", "error 'init'")
        local said = sure(("cd %s && CDPATH=/:/tmp LUA_INIT='error [[init]]' LUA_PATH=/none LUA_CPATH=/none "
            .. "HOME=%s XDG_CONFIG_HOME=%s/.config LC_ALL=tr_TR.UTF-8 MAKEFLAGS=-n SLURM_JOB_ID=1 "
            .. "tests/run %s/build lua/nearest"):format(quote(root), folder, folder, folder))
        assert.matches("tests/lua/nearest +4 passed, 0 failed", said)
    end)
end)

describe("the tests say the instruction sets that they ran with", function()
    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    it("of one run", function()
        local program = folder .. "/build/tests/test_text"
        sure(("mkdir -p %s/build/tests"):format(folder))
        support.write(program, "#!/bin/sh\necho '# instruction set mmx' >&2\necho 'ok 1 - mine'\n")
        local said = sure(("chmod +x %s && cd %s && tests/run %s/build c/test_text"):format(program,
            quote(root), folder))
        assert.truthy(said:find("\ninstruction sets: tests ran with mmx (this processor: ", 1, true), said)
        assert.matches("\n1 passed, 0 failed\n$", said)
    end)

    it("of all stages of the check together", function()
        sure(("ln -s %s/tests %s/tests"):format(quote(root), folder))
        local ran = "echo 'instruction sets: tests ran with %s (this processor: any)'; "
            .. "echo '%d passed, 0 failed'"
        local said = sure(("cd %s && tests/stages first 9 %s quiet 9 true second 9 %s"):format(folder,
            quote(ran:format("avx2 x86-64", 3)), quote(ran:format("avx512 avx2", 2))))
        assert.matches("\ninstruction sets: tests ran with avx2 avx512 x86%-64 %(this processor: ", said)
        assert.matches("\n6 passed, 0 failed\n$", said)
    end)
end)
