-- What README and docs/ but own-*.md promise: their commands run, and print what stands below them.

local follow = require "tests.follow"
local pages = require "tests.pages"
local system = require "advrt.core.system"

describe("a page", function()
    for _, page in ipairs(pages.list(system.options.root)) do
        if not page:find "^docs/own%-" then
            it(page .. " keeps its word", function() follow.page(page) end)
        end
    end
end)
