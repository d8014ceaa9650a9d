local resnet = require "advrt.nets.resnet"

return resnet.definition("resnet50", resnet.bottleneck, {3, 4, 6, 3})
