--- AlexNet in its one-column form (Krizhevsky, arXiv:1404.5997), with torchvision's parameter
-- names.
return {
    name = "alexnet",
    classes = 1000,
    input = {3, 224, 224},
    preprocess = {resize = 256, crop = 224},
    mean = {0.485, 0.456, 0.406},
    std = {0.229, 0.224, 0.225},
    build = function(b, x)
        x = b:relu(b:conv(x, "features.0", {out = 64, kernel = 11, stride = 4, pad = 2}))
        x = b:maxpool(x, {kernel = 3, stride = 2})
        x = b:relu(b:conv(x, "features.3", {out = 192, kernel = 5, pad = 2}))
        x = b:maxpool(x, {kernel = 3, stride = 2})
        x = b:relu(b:conv(x, "features.6", {out = 384, kernel = 3, pad = 1}))
        x = b:relu(b:conv(x, "features.8", {out = 256, kernel = 3, pad = 1}))
        x = b:relu(b:conv(x, "features.10", {out = 256, kernel = 3, pad = 1}))
        x = b:maxpool(x, {kernel = 3, stride = 2})
        x = b:dropout(b:avgpool(x, {6, 6}), 0.5)
        x = b:dropout(b:relu(b:linear(x, "classifier.1", 4096)), 0.5)
        x = b:relu(b:linear(x, "classifier.4", 4096))
        return b:linear(x, "classifier.6", b.classes)
    end,
}
