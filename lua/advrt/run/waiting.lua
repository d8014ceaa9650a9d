--- What runs have in common in which several batches of images wait together, so that one that is finished
-- makes room for another.

local MOST_BATCHES, MOST_BYTES = 16, 1 << 28 -- of the images that wait together

--- Methods for such a run, which a script adds its own to.
return function()
    local Run = {}

    --- How many images may wait together.
    function Run:room()
        local bytes = 4 * self.o.batch
        for _, n in ipairs(self.net.input) do bytes = bytes * n end
        return self.o.batch * math.max(1, math.min(MOST_BATCHES, MOST_BYTES // bytes))
    end

    -- What is to be done is foretold from what was measured (`show`), not counted image by image.
    function Run.image_work() return 0 end
    function Run.spare() end

    return Run
end
