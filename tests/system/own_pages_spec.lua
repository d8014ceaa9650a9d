-- What docs/own-*.md promise: their commands run, and print what stands below them.

local follow = require "tests.follow"
local pages = require "tests.pages"
local support = require "tests.support"
local system = require "advrt.core.system"

describe("a page", function()
    if support.sanitized() then
        pending("is left to the plain build: other specs take the same paths in less time")
        return
    end
    for _, page in ipairs(pages.list(system.options.root)) do
        if page:find "^docs/own%-" then
            it(page .. " keeps its word", function() follow.page(page) end)
        end
    end
end)
