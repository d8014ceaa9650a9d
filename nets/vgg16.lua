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
    build = function(b, x)
        local place = 0 -- torchvision counts convolutions, ReLUs and poolings alike
        for _, stage in ipairs(stages) do
            for _, width in ipairs(stage) do
                x = b:relu(b:conv(x, "features." .. place, {out = width, kernel = 3, pad = 1}))
                place = place + 2
            end
            x = b:maxpool(x, {kernel = 2})
            place = place + 1
        end
        x = b:avgpool(x, {7, 7})
        x = b:dropout(b:relu(b:linear(x, "classifier.0", 4096)), 0.5)
        x = b:dropout(b:relu(b:linear(x, "classifier.3", 4096)), 0.5)
        return b:linear(x, "classifier.6", b.classes)
    end,
}
