--- The common part of definitions of ImageNet nets: torchvision's image size and normalisation.
--
--     return imagenet.definition("squeezenet1_1", build)      -- build(b, x), as net.load takes it
--
-- The fields of a third argument are added, or replace these.

local M = {}

function M.definition(name, build, more)
    local d = {
        name = name,
        classes = 1000,
        input = {3, 224, 224},
        preprocess = {resize = 256, crop = 224},
        mean = {0.485, 0.456, 0.406},
        std = {0.229, 0.224, 0.225},
        build = build,
    }
    for key, value in pairs(more or {}) do d[key] = value end
    return d
end

return M
