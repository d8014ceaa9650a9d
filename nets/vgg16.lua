--- VGG-16, configuration D (Simonyan and Zisserman, arXiv:1409.1556), with torchvision's
-- parameter names.
local stages = {{64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512}, {512, 512, 512}}

return {
    name = "vgg16",
    classes = 1000,
    input = {3, 224, 224},
    preprocess = {resize = 256, crop = 224},
    mean = {0.485, 0.456, 0.406},
    std = {0.229, 0.224, 0.225},
    stems = {"small"},
    build = function(b, x)
        local small = b.stem == "small"
        local part, hidden = small and 8 or 1, small and 128 or 4096
        local dropout = small and 0.2 or 0.5 -- 0.5 would leave too few features
        local place = 0 -- torchvision's numbering includes convolutions, ReLUs and poolings
        for _, stage in ipairs(stages) do
            for _, width in ipairs(stage) do
                x = b:relu(b:conv(x, "features." .. place, {out = width // part, kernel = 3, pad = 1}))
                place = place + 2
            end
            x = b:maxpool(x, {kernel = 2, ceil_mode = small}) -- five of them reduce 28x28 to 1x1
            place = place + 1
        end
        x = b:adaptive_avgpool(x, small and {1, 1} or {7, 7})
        x = b:dropout(b:relu(b:linear(x, "classifier.0", hidden)), dropout)
        x = b:dropout(b:relu(b:linear(x, "classifier.3", hidden)), dropout)
        return b:linear(x, "classifier.6", b.classes)
    end,
}
