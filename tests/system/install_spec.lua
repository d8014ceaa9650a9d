-- What make install and make docs promise: everything is there, works from another folder, and goes again.

local docs = require "advrt.session.docs"
local lfs = require "lfs"
local names = require "advrt.session.names"
local pages = require "tests.pages"
local support = require "tests.support"
local system = require "advrt.core.system"

local sure = support.sure
local root, build = system.options.root, system.options.executable:match("^(.*)/")
local folder

local function make(target)
    -- the program is there, and is not to be built with other flags than its own
    return sure(("cd %s && make --no-print-directory -o %s/advrt BUILD=%s PLUGIN= DESTDIR=%s PREFIX=/usr %s")
        :format(support.quote(root), build, build, support.quote(folder .. "/root"), target))
end

local function files_below(path)
    local list = {}
    local found = sure(("cd %s && find . -type f ! -name '*[[:space:]]*' | sort"):format(support.quote(path)))
    for line in found:gmatch("[^\n]+") do
        list[#list + 1] = line
    end
    return list
end

describe("an installation", function()
    local share, bin

    setup(function()
        folder = support.folder()
        share, bin = folder .. "/root/usr/share/", folder .. "/root/usr/bin/advrt"
        make "install"
    end)
    teardown(function() support.remove(folder) end)

    it("holds every file that advrt reads, as it is in the source tree", function()
        for _, part in ipairs {"lua", "nets", "experiments"} do
            local list = files_below(root .. "/" .. part)
            assert.same(list, files_below(share .. "advrt/" .. part))
            assert.is_true(#list > 5)
            sure(("diff -r -x '* *' %s %s"):format(support.quote(root .. "/" .. part),
                support.quote(share .. "advrt/" .. part)))
        end
    end)

    it("holds README, the pages and their pictures, and each link between them leads somewhere", function()
        local doc = share .. "doc/advrt"
        assert.same(pages.list(root), pages.list(doc))
        assert.same(files_below(root .. "/docs"), files_below(doc .. "/docs"))
        for _, name in ipairs(pages.list(doc)) do assert.same({}, pages.dead(doc, name)) end
    end)

    it("is refused where make and the shell would take the name of its folder apart", function()
        for _, prefix in ipairs {"/a b", "/it's", "/a;b", "/a?b", "/a|b", "/$$(true)", '/a"b'} do
            local status, out, err = support.shell(("cd %s && make --no-print-directory install DESTDIR= "
                .. "PREFIX=%s"):format(support.quote(root), support.quote(folder .. prefix)))
            assert.equal(2, status)
            assert.equal("", out)
            assert.matches("^make install: DESTDIR and PREFIX hold no blanks, [^\n]*\nmake: [^\n]*\n$", err)
        end
        assert.same({"root"}, support.list(folder))
    end)

    it("runs its experiments from any folder", function()
        local away = folder .. "/away"
        assert(lfs.mkdir(away))
        local there = ("cd %s && %s "):format(away, bin)
        local said = sure(there ..
            "equal_perturbation --limit 4 --iterations 3 --losses ce --no-figures --out run")
        assert.truthy(support.exists(away .. "/run/records.msgpack"), said)
        assert.truthy(support.exists(away .. "/run/report.html"), said)
        said = sure(there .. "experiments/evaluate.lua --net nets/fashion.lua --limit 4")
        assert.truthy(said:find(share .. "advrt/nets/fashion-images: 4 images", 1, true), said)
        assert.equal(share .. "advrt\n", sure(("cd / && %s -e %s"):format(bin,
            support.quote "print(require 'advrt.core.system'.options.root)")))
    end)

    it("tells pkg-config where it is", function()
        local function ask(what)
            return sure(("PKG_CONFIG_PATH=%spkgconfig pkg-config %s advrt"):format(share, what))
        end
        assert.equal(system.options.version .. "\n", ask "--modversion")
        assert.equal("/usr/share/advrt/lua\n", ask "--variable=luadir")
        assert.equal("/usr/share/advrt/nets\n", ask "--variable=netsdir")
        assert.equal("/usr/share/advrt/experiments\n", ask "--variable=experimentsdir")
    end)

    it("has a manual page without a fault, on every option and experiment", function()
        local page = share .. "man/man1/advrt.1"
        assert.equal("", sure("mandoc -T lint -W style " .. page))
        local text = sure(("mandoc -T utf8 %s | col -b"):format(page))
        local plain = text:gsub("%s+", " ")
        for _, option in ipairs(system.program_options) do
            local head = option.name .. (option.value and " " .. option.value or "")
            assert.truthy(text:find(head .. "\n", 1, true) or text:find(head .. "%s%s"), head)
            assert.truthy(plain:find(option.help, 1, true), option.help)
            assert.truthy(plain:find(option.usual or "", 1, true), option.usual)
            assert.truthy(plain:find(option.environment or "", 1, true), option.environment)
        end
        for name in lfs.dir(root .. "/experiments") do
            local script = name:match("^(.*)%.lua$")
            if script then assert.truthy(text:find("\n%s+" .. script .. "%s"), script) end
        end
        assert.falsy(text:find("@%u"))
    end)

    it("completes options, scripts, and the options of experiments in bash", function()
        local file = share .. "bash-completion/completions/advrt"
        local function complete(...)
            local words = {}
            for i, word in ipairs {...} do words[i] = support.quote(word) end
            local code = ([[. %s; COMP_WORDS=(advrt %s); COMP_CWORD=%d
                _advrt; printf '%%s\n' "${COMPREPLY[*]}"]]):format(file, table.concat(words, " "), #words)
            return sure("bash -c " .. support.quote(code)):match("^(.-)\n$")
        end
        assert.equal("--threads", complete "--th")
        for _, option in ipairs(system.program_options) do
            assert.equal(option.name, complete(option.name):match("%S+"))
            if option.value then
                assert.equal(table.concat(option.choices or {}, " "), complete(option.name, ""))
            end
            if option.joined then
                assert.equal("equal_multiplier equal_perturbation", complete(option.name, "x", "equal_"))
            end
        end
        assert.equal("direct", complete("--plan", "d"))
        assert.equal("direct", complete("--plan", "=", "d"))
        assert.equal("equal_multiplier equal_perturbation", complete "equal_")
        assert.equal("--magnitude", complete("--plan", "direct", "equal_perturbation", "--mag"))
        assert.equal("--magnitude", complete("--plan", "=", "direct", "x/equal_perturbation.lua", "--mag"))
        assert.equal("", complete("equal_multiplier", "--mag"))
        assert.equal("", complete("elsewhere.lua", "--"))
        assert.equal("", complete("equal_multiplier", "--out", "r"))
        for _, name in ipairs {"theorem", "train", "table1"} do
            local help = sure(("cd %s && %s experiments/%s.lua --help"):format(root, bin, name))
            local offered = " " .. complete(name, "--") .. " "
            local count = 0
            for option in help:gmatch("\n +%-*h?,? *(%-%-[%a-]+)") do
                assert.truthy(offered:find(" " .. option .. " ", 1, true), option)
                count = count + 1
            end
            assert.is_true(count > 2)
            assert.equal(count, select(2, offered:gsub("%-%-", "")))
        end
    end)

    it("goes again, and leaves what is not its own", function()
        support.write(share .. "advrt/nets/mine.lua", "return {}")
        make "uninstall"
        assert.same({"./usr/share/advrt/nets/mine.lua"}, files_below(folder .. "/root"))
    end)

    it("leaves no empty folder below a prefix of its own", function()
        local prefix = folder .. "/own"
        sure(("mkdir -p %s/bin %s/lib %s/share/man/man1 %s/share/doc/advrt %s/share/pkgconfig "
            .. "%s/share/bash-completion/completions"):gsub("%%s", prefix))
        sure(("cd %s && make --no-print-directory uninstall PREFIX=%s"):format(root, prefix))
        assert.is_false(support.exists(prefix))
    end)
end)

describe("the documentation", function()
    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    local function unescape(text)
        local of = {["&lt;"] = "<", ["&gt;"] = ">", ["&quot;"] = '"', ["&#39;"] = "'", ["&amp;"] = "&"}
        return (text:gsub("&#?%w+;", of))
    end

    it("has every public function on a page, with what its docstring says", function()
        local made = folder .. "/reference"
        sure(("%s %s/packaging/reference.lua %s"):format(system.options.executable, root, made))
        local index, count = support.read(made .. "/index.html"), 0
        local found = sure(("cd %s/lua/advrt && find . -name '*.lua'"):format(root))
        for path in found:gmatch("%./([^\n]+)%.lua") do
            local name = path:gsub("/", ".")
            assert.truthy(index:find(('href="%s.html"'):format(name), 1, true), name)
            local page = unescape(support.read(made .. "/" .. name .. ".html"))
            for _, entry in ipairs(docs.module(name).entries) do
                local owner = entry.owner and entry.owner .. entry.separator or ""
                local id = ('id="%s%s"'):format(owner, entry.last)
                if not entry.private then
                    assert.truthy(page:find(id, 1, true), name .. ": " .. id)
                    assert.truthy(page:find(entry.signature, 1, true), entry.signature)
                    assert.truthy(page:find(table.concat(entry.text, "\n"):gsub("\n+$", ""), 1, true), id)
                end
            end
            local module = not path:find("/", 1, true) and require("advrt." .. name)
            for key, value in pairs(type(module) == "table" and module or {}) do
                if type(value) == "function" then
                    assert.truthy(page:find(('id="%s.%s"'):format(name, key), 1, true), name .. "." .. key)
                    count = count + 1
                end
            end
        end
        assert.is_true(count > 80, count .. " functions")
        local tensors = support.read(made .. "/tensor.html")
        for method in pairs(names.fields(require "advrt.tensor".new {1}, true)) do
            assert.truthy(method:find("^__") or tensors:find(('id="%%a+:%s"'):format(method)), method)
        end
    end)
end)
