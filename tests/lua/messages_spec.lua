-- What the program says: the collector finds every sentence, and none breaks the rules that a program can
-- check: no sentence is long, and none uses words that the pages replaced by plainer ones.

local messages = require "tests.messages"
local system = require "advrt.core.system"

local MOST_WORDS = 25

-- Each with what to write instead.
local replaced = {
    ["of which"] = "name the thing", ["for what"] = "name the thing", ["in what"] = "name the thing",
    ["whatever"] = "name the thing", ["told by"] = "from", ["as it is"] = "unchanged",
    ["share of"] = "fraction of", ["anew"] = "again",
}

--- Code for gnuplot and for pages is no sentence.
local function is_code(text)
    return text:find("linecolor", 1, true) or text:find("unset ", 1, true) or text:find("gnuplot -d", 1, true)
end

--- A text without a page's tags, whose lines are no sentences' ends.
local function prose(text)
    if not text:find("</", 1, true) then return text end
    return (text:gsub("\n", " "):gsub("<[^>]*>", "\n"))
end

local function texts(source, ending)
    local list = {}
    for i, one in ipairs(messages.strings(source, ending)) do list[i] = one.line .. " " .. one.text end
    return list
end

describe("the list of messages", function()
    it("holds the strings of Lua that are joined as one, and no comment", function()
        assert.same({"2 it's one string", "4 a\"b", "5 long\nstring", "8 last"}, texts(
            "-- 'no' \"string\"\nfail(\"it's one \" -- a remark\n    .. 'string', 1)\nx = \"a\\\"b\", "
            .. "y[1]\nz = [[\nlong\nstring]] --[[ no\nstring ]] w = 'last'", ".lua"))
    end)

    it("holds the strings of C that stand side by side as one, and no comment", function()
        assert.same({"1 two parts", "3 next\n"}, texts(
            "f(\"two \" /* \"no\" */\n  \"parts\", // \"no\"\n \"next\\n\");", ".c"))
    end)

    it("has what errors, helps and tables say", function()
        local found, wanted = {}, {"there is no option '%s'%s", "margin at which m_logit stops growing",
            "cannot find advrt's own Lua files beside %s; install it with 'make install'",
            "Perturbation at the first flip"}
        local all = messages.all(system.options.root)
        for _, m in ipairs(all) do found[m.text] = true end
        for _, text in ipairs(wanted) do assert(found[text], text) end
        assert.is_true(#all > 1000, #all .. " messages")
    end)

    it("has no long sentence and no word that was replaced", function()
        local faults = {}
        for _, m in ipairs(messages.all(system.options.root)) do
            local own = m.path:find("^lua/") or m.path:find("^experiments/") or m.path == "runtime/main.c"
            local text = own and not is_code(m.text) and prose(m.text) or ""
            for word, better in pairs(replaced) do
                if (" " .. text:gsub("%s+", " ") .. " "):find("%f[%a]" .. word .. "%f[%A]") then
                    faults[#faults + 1] = ("%s:%d: '%s': %s"):format(m.path, m.line, word, better)
                end
            end
            for sentence in (text .. "\n"):gmatch("(.-)[.;:!?\n]+%s") do
                local count = 0
                for word in sentence:gmatch("%S+") do count = count + (word:find("%a") and 1 or 0) end
                if count > MOST_WORDS then
                    faults[#faults + 1] = ("%s:%d: %d words: %s"):format(m.path, m.line, count, sentence)
                end
            end
        end
        assert.same({}, faults)
    end)
end)
