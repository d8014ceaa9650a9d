-- What a run finds around it, and must not depend on: closed standard streams, gnuplot's start-up files
-- and variables, places where its results cannot go.

local lfs = require "lfs"
local support = require "support"
local system = require "advrt.core.system"

local experiments = system.options.root .. "/experiments/"
local advrt = support.quote(system.options.executable)

local base

local function quoted(words)
    local list = {}
    for i, word in ipairs(words) do list[i] = support.quote(word) end
    return table.concat(list, " ")
end

describe("a closed standard stream", function()
    local images, whole

    local function words(dir, more)
        local list = {"--threads", "1", experiments .. "equal_perturbation.lua", "--images", images,
            "--iterations", "4", "--batch", "2", "--losses", "ce,logit", "--no-figures", "--resume", "--out",
            dir}
        return table.move(more or {}, 1, #(more or {}), #list + 1, list)
    end

    setup(function()
        base = support.folder()
        images = support.images(base .. "/images", 4)
        whole = base .. "/whole"
        local status, _, err = support.advrt(words(whole))
        assert.equal(0, status, err)
    end)
    teardown(function() support.remove(base) end)

    it("takes nothing from a run, in any combination", function()
        for i, closed in ipairs {">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"} do
            local dir = ("%s/closed%d"):format(base, i)
            local status, _, err = support.shell(("%s %s %s"):format(advrt, quoted(words(dir)), closed))
            assert.equal(0, status, closed .. err)
            assert.same(support.contents(whole), support.contents(dir), closed)
        end
    end)

    it("leaves the journal of a run that is killed whole", function()
        for i, closed in ipairs {">&-", "2>&-", "<&- >&- 2>&-"} do
            local dir = ("%s/killed%d"):format(base, i)
            local status, _, err = support.shell(("%s %s %s %s"):format(support.stop {at = "commit",
                count = 3, signal = "KILL"}, advrt, quoted(words(dir)), closed))
            assert.equal(137, status, err)
            local size = lfs.attributes(dir .. "/records.part", "size")
            status, _, err = support.advrt(words(dir))
            assert.equal(0, status, closed .. err)
            assert.is_true(size > 1000)
            assert.same(support.contents(whole), support.contents(dir), closed)
        end
    end)

    it("does not lead into a file that a script opens", function()
        local path = base .. "/text"
        local code = ("local f = io.open(%q, 'w'); print 'lost'; io.stdout:flush(); io.stderr:write 'lost'; "
            .. "f:write 'kept'; f:close()"):format(path)
        local status = support.shell(("%s -e %s <&- >&- 2>&-"):format(advrt, support.quote(code)))
        assert.equal(0, status)
        assert.equal("kept", support.read(path))
    end)
end)

describe("a figure", function()
    local function draw(name, environment)
        local dir = base .. "/" .. name
        lfs.mkdir(dir)
        local code = ([[local plot = require "advrt.plot"
            local file = io.open(%q, "w")
            file:write(plot.script("fig1", "A title", 300, 200, plot.block("d", {{1, 2.5}, {2, 30}}),
                "set title 'é ü'\nplot $d using 1:2 with linespoints title '1.5'"))
            file:close()
            plot.check()
            plot.draw(%q, {"fig1"})]]):format(dir .. "/fig1.gp", dir)
        local status, _, err = support.advrt({"-e", code}, environment)
        assert.equal(0, status, err)
        return support.read(dir .. "/fig1.svg"), support.read(dir .. "/fig1.png")
    end

    local svg, png

    setup(function()
        base = support.folder()
        svg, png = draw("plain")
    end)
    teardown(function() support.remove(base) end)

    it("is the same for all start-up files of a user", function()
        for i, text in ipairs {"set logscale y", "set datafile separator ','", "set decimalsign ','",
            "set terminal dumb; set size 0.5,0.5", "set style line 1 linewidth 9; exit"} do
            local home = ("%s/home%d"):format(base, i)
            os.execute(("mkdir -p %s/.config/gnuplot"):format(home))
            for _, name in ipairs {"/.gnuplot", "/.config/gnuplot/gnuplotrc"} do
                support.write(home .. name, text .. "\n")
            end
            local mine, pixels = draw("drawn" .. i, ("env HOME=%s XDG_CONFIG_HOME=%s/.config"):format(home,
                home))
            assert.is_true(mine == svg and pixels == png, text)
        end
    end)

    it("has the fonts of the system, not of a user", function()
        local home = base .. "/fonts"
        os.execute(("mkdir -p %s/.config/fontconfig"):format(home))
        support.write(home .. "/.config/fontconfig/fonts.conf", [[<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><match target="pattern"><edit name="size"
mode="assign"><double>30</double></edit></match></fontconfig>
]])
        local mine, pixels = draw("of_fonts", "env -u XDG_CONFIG_HOME HOME=" .. home)
        assert.is_true(mine == svg and pixels == png)
    end)

    it("is the same whatever gnuplot's variables and the locale say", function()
        local locale = support.shell "locale -a | grep -q de_DE" == 0 and "de_DE.UTF-8" or "C"
        local mine, pixels = draw("of_variables", ("env GNUTERM=dumb GNUPLOT_LIB=/nowhere "
            .. "GDFONTPATH=/nowhere GNUPLOT_DEFAULT_GDFONT=times GNUPLOT_FONTPATH=/nowhere "
            .. "GNUPLOT_DRIVER_DIR=/nowhere "
            .. "LC_ALL=%s LC_NUMERIC=%s LANG=%s"):format(locale, locale, locale))
        assert.is_true(mine == svg and pixels == png)
    end)

    it("is not begun with a gnuplot that cannot make it", function()
        local bin = base .. "/bin"
        lfs.mkdir(bin)
        for text, wanted in pairs {["echo 'gnuplot: line 0: unknown terminal'; exit 1"] = "cannot draw SVG",
            ["kill -KILL $$"] = "signal 9"} do
            support.write(bin .. "/gnuplot", "#!/bin/sh\n" .. text .. "\n")
            os.execute("chmod +x " .. bin .. "/gnuplot")
            local status, out, err = support.advrt({experiments .. "equal_multiplier.lua", "--limit", "2",
                "--iterations", "1", "--out", base .. "/never"}, ("PATH=%s:$PATH"):format(bin))
            assert.equal(1, status)
            assert.equal("", out)
            assert.matches("^advrt: [^\n]*" .. wanted .. "[^\n]*\n$", err)
            assert.is_false(support.exists(base .. "/never"))
        end
    end)
end)

describe("what a run needs at its end", function()
    local data

    local function refused(status, wanted, words, environment)
        local got, out, err = support.advrt(words, environment)
        assert.equal(status, got, err)
        assert.matches("^advrt: [^\n]+\n$", (err:gsub("^trained in [^\n]*\n", "")))
        assert.truthy(err:find(wanted, 1, true), err)
        return out
    end

    local function train(more)
        local words = {"--threads", "1", experiments .. "train.lua", "--net", "mlp", "--data", data,
            "--batch", "5", "--epochs", "2", "--out", base .. "/w.safetensors"}
        return table.move(more or {}, 1, #(more or {}), #words + 1, words)
    end

    setup(function()
        base = support.folder()
        data = base .. "/data"
        local image = support.images(base .. "/images", 1)
        local bytes = support.read(image .. "/" .. support.list(image)[1])
        for _, part in ipairs {"train", "val"} do
            for class = 0, 9 do
                os.execute(("mkdir -p %s/%s/%d"):format(data, part, class))
                support.write(("%s/%s/%d/a.png"):format(data, part, class), bytes)
            end
        end
    end)
    teardown(function() support.remove(base) end)

    it("is looked at before a training: its test images", function()
        assert(os.rename(data .. "/val", data .. "/away"))
        local out = refused(1, "has training images but no test images; add one of val, val.npz, ",
            train())
        assert(os.rename(data .. "/away", data .. "/val"))
        assert.equal("", out)
        assert.is_false(support.exists(base .. "/w.safetensors"))
        local words = train()
        lfs.mkdir(base .. "/idx")
        support.write(base .. "/idx/train-images-idx3-ubyte.gz", "noise")
        for i, word in ipairs(words) do words[i] = word == data and base .. "/idx" or word end
        assert.equal("", refused(1, "idx/train-images-idx3-ubyte.gz", words))
    end)

    it("is looked at before a training: where its files go, and the room for them", function()
        for _, option in ipairs {"--log", "--checkpoint", "--out"} do
            assert.equal("", refused(1, option .. ": cannot write there", train {option,
                base .. "/nowhere/file"}))
            assert.equal("", refused(1, option .. ": " .. data .. " is a folder", train {option, data}))
        end
        assert.equal("", refused(1, "kB are free;", train(),
            "env LUA_INIT='require \"advrt.core.system\".room = function() return 1500 end'"))
        assert.same({"data", "idx", "images"}, support.list(base))
    end)

    it("does not cost a training its weights", function()
        local path = data .. "/val/3/a.png"
        local bytes = support.read(path)
        support.write(path, bytes:sub(1, -30))
        local out = refused(1, path .. ": is truncated", train())
        support.write(path, bytes)
        assert.matches("epoch 2 of 2.*weights in " .. base, out)
        local status, more, err = support.advrt(train {"--out", base .. "/again.safetensors"})
        assert.equal(0, status, err)
        assert.matches("test images: ", more)
        assert.equal(support.read(base .. "/again.safetensors"), support.read(base .. "/w.safetensors"))
    end)

    it("is a number of readers that there can be", function()
        for _, readers in ipairs {"9999", "65", "0", "x"} do
            assert.equal("", refused(2, "whole number from 1 to 64", train {"--readers", readers}))
        end
    end)

    it("is looked at before a set is made: other nets and pretrained weights", function()
        local set = {"--images", base .. "/images", "--limit", "1", "--extra", "0", "--iterations", "1",
            "--no-figures", "--out", base .. "/refused"}
        for script, more in pairs {["transfer.lua"] = {"--nets", "mlp=" .. base .. "/nowhere.safetensors"},
            ["retraining.lua"] = {"--detectors", "alexnet", "--pretrained", "alexnet=" .. base
                .. "/nowhere.safetensors"}} do
            local words = {experiments .. script, table.unpack(set)}
            table.move(more, 1, #more, #words + 1, words)
            assert.equal("", refused(1, "nowhere.safetensors", words))
            assert.is_false(support.exists(base .. "/refused"))
        end
    end)

    it("is room on the disk: a run says where there may be too little, and begins", function()
        local status, _, err = support.advrt({experiments .. "equal_multiplier.lua", "--images",
            base .. "/images", "--iterations", "2", "--no-figures", "--out", base .. "/short"},
            "env LUA_INIT='require \"advrt.core.system\".room = function() return 10 end'")
        assert.equal(0, status, err)
        assert.matches("^advrt: warning: the run may need up to [%d.]+ kB in " .. base
            .. "/short; 10 bytes are free\n", err)
    end)
end)
