-- tests/fuzz/seeds.lua FOLDER: writes the malformed weight files, and the good ones that they were
-- made from, to FOLDER/TARGET for libFuzzer to begin with.

package.path = "tests/?.lua;" .. package.path
local malformed = require "malformed"

local function write(path, bytes)
    local file = assert(io.open(path, "wb"))
    file:write(bytes)
    file:close()
end

for target, files in pairs(malformed) do
    local folder = arg[1] .. "/" .. target
    write(folder .. "/good", files.good)
    for i, case in ipairs(files) do write(("%s/malformed%02d"):format(folder, i), case[1]) end
end
