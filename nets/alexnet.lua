--- AlexNet in its one-column form (Krizhevsky, arXiv:1404.5997), with torchvision's parameter
-- names.
return {
    name = "alexnet",
    classes = 1000,
    input = {3, 224, 224},
    preprocess = {resize = 256, crop = 224},
    mean = {0.485, 0.456, 0.406},
    std = {0.229, 0.224, 0.225},
    stems = {"small"},
    build = function(b, x)
        local small = b.stem == "small"
        local part = small and 8 or 1 -- the width is divided by this
        local dropout = small and 0.2 or 0.5 -- 0.5 would leave too few features
        local pool = small and {kernel = 2} or {kernel = 3, stride = 2}
        x = b:relu(b:conv(x, "features.0", small and {out = 8, kernel = 3, pad = 1}
            or {out = 64, kernel = 11, stride = 4, pad = 2}))
        x = b:maxpool(x, pool)
        x = b:relu(b:conv(x, "features.3", {out = 192 // part, kernel = 5, pad = 2}))
        x = b:maxpool(x, pool)
        x = b:relu(b:conv(x, "features.6", {out = 384 // part, kernel = 3, pad = 1}))
        x = b:relu(b:conv(x, "features.8", {out = 256 // part, kernel = 3, pad = 1}))
        x = b:relu(b:conv(x, "features.10", {out = 256 // part, kernel = 3, pad = 1}))
        x = b:maxpool(x, pool)
        x = b:dropout(b:adaptive_avgpool(x, small and {3, 3} or {6, 6}), dropout)
        x = b:dropout(b:relu(b:linear(x, "classifier.1", small and 128 or 4096)), dropout)
        x = b:relu(b:linear(x, "classifier.4", small and 128 or 4096))
        return b:linear(x, "classifier.6", b.classes)
    end,
}
