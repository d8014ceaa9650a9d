-- tests/order, the lint stage that keeps the rooms of runtime/ in order: each rule broken once.

local lfs = require "lfs"
local support = require "tests.support"
local system = require "advrt.core.system"

describe("the order of the rooms", function()
    local root, folder = system.options.root

    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    -- Writes a file below runtime/ with lines that include what is named.
    local function write(path, ...)
        local dir = folder
        for part in ("runtime/" .. path):gmatch("([^/]+)/") do
            dir = dir .. "/" .. part
            lfs.mkdir(dir)
        end
        local lines = {}
        for i, header in ipairs {...} do
            lines[i] = "#include " .. (header:find "^<" and header or ('"%s"'):format(header)) .. "\n"
        end
        support.write(folder .. "/runtime/" .. path, table.concat(lines))
    end

    local function order(where)
        local pipe = assert(io.popen(("sh %s/tests/order %s 2>&1"):format(root, where)))
        local said = pipe:read("a")
        local _, _, status = pipe:close()
        return status, said
    end

    it("is kept here", function()
        assert.same({0, ""}, {order(root)})
    end)

    it("lets files include their own room and those below", function()
        write("base/a.h")
        write("io/a.c", "io/a.h", "base/a.h", "tensor/a.h", "<stdio.h>")
        write("image/a.c", "io/a.h")
        write("net/a.h", "device/a.h", "layers.inc")
        write("backend/new/a.c", "backend/new/a.h", "base/a.h")
        write("backend/cuda/a.cu", "device/a.h", "<cudnn.h>")
        write("bind/a.c", "net/a.h", "<lua.h>")
        write("main.c", "backend/open.h", "bind/a.h", "<lauxlib.h>")
        assert.same({0, ""}, {order(folder)})
    end)

    it("refuses what points upwards, sideways or past the room that owns a library", function()
        for line, case in pairs {
            ["runtime/base/a.c:1: base may not include device/a.h: it lies on nothing"] =
                {"base/a.c", "device/a.h"},
            ["runtime/device/a.h:1: device may not include tensor/a.h: it lies on base"] =
                {"device/a.h", "tensor/a.h"},
            ["runtime/tensor/a.c:2: tensor may not include net/a.h"] = {"tensor/a.c", "base/a.h", "net/a.h"},
            ["runtime/io/a.c:1: io may not include image/a.h"] = {"io/a.c", "image/a.h"},
            ["runtime/net/layers/a.c:1: net may not include bind/a.h"] = {"net/layers/a.c", "bind/a.h"},
            ["runtime/solve/a.c:1: solve may not include net/a.h"] = {"solve/a.c", "net/a.h"},
            ["runtime/bind/a.c:1: bind may not include backend/cpu/a.h"] = {"bind/a.c", "backend/cpu/a.h"},
            ["runtime/backend/cpu/a.inc:1: backend/cpu may not include backend/cuda/a.h"] =
                {"backend/cpu/a.inc", "backend/cuda/a.h"},
            ["runtime/backend/new/a.cu:1: backend/new may not include tensor/a.h: it lies on base device"] =
                {"backend/new/a.cu", "tensor/a.h"},
            ["runtime/backend/cuda/a.c:1: backend/cuda may not include backend/open.h"] =
                {"backend/cuda/a.c", "backend/open.h"},
            ["runtime/net/a.c:1: <lua.h> is included by bind alone"] = {"net/a.c", "<lua.h>"},
            ["runtime/tensor/a.c:1: <oneapi/dnnl/dnnl.h> is included by backend/cpu alone"] =
                {"tensor/a.c", "<oneapi/dnnl/dnnl.h>"},
            ["runtime/net/a.c:1: \"plan.h\" is named without its room"] = {"net/a.c", "plan.h"},
            ["runtime/net/a.c:1: \"nest/a.h\" is in no room of runtime/"] = {"net/a.c", "nest/a.h"},
            ["runtime/attic/a.c:1: the room attic is not in tests/order"] = {"attic/a.c", "base/a.h"},
        } do
            support.remove(folder)
            folder = support.folder()
            write(table.unpack(case))
            local status, said = order(folder)
            assert.equal(1, status, said)
            assert.equal(line, said:sub(1, #line))
        end
    end)

    it("says that there is nothing to look at", function()
        lfs.mkdir(folder .. "/runtime")
        local status, said = order(folder)
        assert.equal(1, status)
        assert.matches("no sources below runtime/", said)
    end)
end)
