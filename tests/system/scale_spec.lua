-- The study of how time and memory grow, made small; and what it must notice.

local json = require "dkjson"
local support = require "tests.support"

if support.sanitized() then
    describe("the study of scale", function()
        pending("is left to the plain build: it measures", function() end)
    end)
    return
end

-- A script that keeps every tensor, and one that asks for each image's contents before the run.
local KEEPS = [[local t = require 'advrt.tensor'; local new = t.new; kept = {}
function t.new(...) local x = new(...); kept[#kept + 1] = x; return x end]]
local OPENS = [[local d = require 'advrt.data'; local open = d.folder
function d.folder(...) local f = open(...); for i = 1, #f do assert(f:read(i)) end return f end]]

describe("the study of scale", function()
    local folder, out
    before_each(function()
        folder = support.folder()
        out = folder .. "/scale"
    end)
    after_each(function() support.remove(folder) end)

    local function scale(words, init)
        return support.advrt({"--threads", "1", "tests/bench/scale.lua", "--rounds", "1",
            "--round-seconds", "0", "--out", out, table.unpack(words)},
            init and "LUA_INIT=" .. support.quote(init))
    end

    it("measures, draws and says what grows", function()
        local status, said, err = scale {"--studies", "batch,size,threads,images", "--batches", "1,3",
            "--sizes", "32,64", "--counts", "32,96"}
        assert.equal("", err)
        assert.equal(0, status)
        local batch, size = support.rows(out .. "/batch.csv"), support.rows(out .. "/size.csv")
        assert.same({1, 3}, {batch[1].batch, batch[2].batch})
        assert.is_true(batch[1].seconds > 0 and batch[1].min <= batch[1].max)
        -- Three images hold more than one does, and four times the pixels more than those.
        assert.is_true(batch[2].counted_peak > batch[1].counted_peak)
        assert.is_true(size[2].counted_peak > size[1].counted_peak)
        assert.equal(1, #support.rows(out .. "/threads.csv"))
        local images = support.rows(out .. "/images.csv")
        assert.same({32, 96}, {images[1].images, images[2].images})
        assert.is_true(images[2].peak_rss < 1.3 * images[1].peak_rss)
        for _, name in ipairs {"batch", "size", "threads", "images"} do
            local svg = support.read(("%s/fig_%s.svg"):format(out, name))
            assert.truthy(svg:find("</svg>", 1, true))
            assert.is_true(support.exists(("%s/fig_%s.png"):format(out, name)))
        end
        assert.truthy(said:find("seconds by images from 32 to 96: times", 1, true), said)
        local found = assert(json.decode(support.read(out .. "/scale.json")))
        assert.equal(2, #found.studies.batch)
        assert.is_false(support.exists(out .. "/scratch"))
    end)

    it("finds memory flat over attacks, and tells where it is not", function()
        local status, _, err = scale {"--studies", "memory", "--attacks", "200"}
        assert.equal("", err)
        assert.equal(0, status)
        local rows = support.rows(out .. "/attacks.csv")
        assert.same({10, 20, 200}, {#rows, rows[1].attacks, rows[10].attacks})
        assert.equal(rows[1].counted, rows[10].counted)
        assert.is_true(rows[10].rss - rows[1].rss <= 4 << 20)
        support.remove(out)
        status, _, err = scale({"--studies", "memory", "--attacks", "40"}, KEEPS)
        assert.equal(1, status)
        assert.equal("advrt: memory grows with attacks\n", err)
    end)

    it("starts on fifty thousand files without opening one, and tells where they are", function()
        local status, _, err = scale {"--studies", "start"}
        assert.equal("", err)
        assert.equal(0, status)
        local rows = support.rows(out .. "/files.csv")
        assert.same({100, 50000}, {rows[1].files, rows[2].files})
        -- A second; what else the machine does is not in it, what the sanitizers add is.
        assert.is_true(rows[2].cpu < 6)
        support.remove(out)
        status, _, err = scale({"--studies", "start", "--files", "200"}, OPENS)
        assert.equal(1, status)
        assert.matches("^advrt: 100 links: before the first batch: [^\n]*/000033%.png[^\n]*\n$", err)
    end)

    it("refuses what makes no sense", function()
        for _, words in ipairs {{"--studies", "colour"}, {"--batches", "2,1"}, {"--sizes", "16"},
            {"--attacks", "1"}, {"--files", "fifty"}, {"--round-seconds", "-1"}} do
            local status, _, err = scale(words)
            assert.equal(2, status)
            assert.matches("^advrt: [^\n]+\n$", err)
        end
        assert.is_false(support.exists(out))
    end)
end)
