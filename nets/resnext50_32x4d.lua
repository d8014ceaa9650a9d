local resnet = require "advrt.nets.resnet"

return resnet.definition("resnext50_32x4d", resnet.bottleneck, {3, 4, 6, 3}, {groups = 32, group_width = 4})
