-- demo(): what it prints is what its attacks did, and what it tells to type next works.

local demo = require "advrt.demo"
local docs = require "advrt.session.docs"
local image = require "advrt.image"
local support = require "tests.support"
local system = require "advrt.core.system"

describe("demo()", function()
    local out

    setup(function()
        local lines, print_before = {}, print
        rawset(_G, "print", function(...) lines[#lines + 1] = table.concat({...}, "\t") end)
        local done, message = pcall(demo, 5)
        rawset(_G, "print", print_before)
        assert(done, message)
        out = table.concat(lines, "\n") .. "\n"
    end)

    it("prints a row for each loss with the medians of its results", function()
        for name, title in pairs {ce = "CE", ce_sign = "CE%-Sign", logit = "Logit", m_logit = "M%-Logit"} do
            local flipped, of, steps, l2 = out:match("\n" .. title
                .. " +(%d+) of (%d+) +(%d+) +([%d.]+) +[%d.]+ s\n")
            assert.equal("5", of, name)
            local all, distances = demo[name].flip_iteration:totable(), demo[name].flip_l2:totable()
            assert.equal(5, tonumber(flipped), name)
            table.sort(all)
            table.sort(distances)
            assert.equal(all[3], tonumber(steps), name)
            assert.equal(("%.2f"):format(distances[3]), l2, name)
        end
    end)

    it("says in words which loss is fastest and which changes an image least", function()
        local fewest, smallest
        for _, name in ipairs {"ce", "ce_sign", "logit", "m_logit"} do
            local all, l2 = demo[name].flip_iteration:totable(), demo[name].flip_l2:totable()
            table.sort(all)
            table.sort(l2)
            fewest = math.min(fewest or math.huge, all[3])
            smallest = math.min(smallest or math.huge, tonumber(("%.2f"):format(l2[3])))
        end
        assert.equal(fewest, tonumber(out:match("\nFewest steps: [^\n]*within (%d+) steps%.\n")))
        assert.equal(smallest, tonumber(out:match("\nSmallest change: [^\n]*norm of (%d%.%d+)%.\n")))
        assert.matches("\nExample: image 1 %([%l/ -]+%) first becomes [%l/ -]+ at step %d+ %(CE%)", out)
    end)

    it("fits a terminal", function()
        for line in out:gmatch("([^\n]*)\n") do assert.is_true(utf8.len(line) <= 100, line) end
    end)

    it("names commands that work", function()
        local count, globals = 0, setmetatable({}, {__index = _G})
        for _, name in ipairs(docs.modules) do globals[name] = require("advrt." .. name) end
        for command in out:match("What to try next:\n(.*)$"):gmatch("  (%S.-)  +%l[^\n]*\n") do
            local asked, script = command:match("^%? (.*)$"), command:match("^advrt (%S+)$")
            if asked then
                assert(docs.help(asked, globals), command)
            elseif script then
                assert(support.exists(("%s/experiments/%s.lua"):format(system.options.root, script)))
            else
                local folder = support.folder()
                globals.image = {show = function(x) image.save(folder .. "/shown.png", x[1]) end}
                assert(load(command, command, "t", globals))()
                support.remove(folder)
            end
            count = count + 1
        end
        assert.equal(5, count)
    end)

    it("takes a number of images that there are", function()
        for _, wrong in ipairs {0, 90, 1.5, "8", {}} do
            local done, message = pcall(demo, wrong)
            assert.is_false(done)
            assert.matches("bad argument #1 to 'demo' %(a number of images from 1 to 89 expected, got",
                message)
        end
        assert.equal(5, #demo.labels)
    end)
end)
