-- The site of all pages and the function reference (make docs), as a reader's browser has it from a folder:
-- every link and anchor leads somewhere, nothing is asked for elsewhere, a search finds, pages fit a phone.

local lfs = require "lfs"
local support = require "tests.support"
local system = require "advrt.core.system"

local root = system.options.root
local there = os.execute("command -v mkdocs >/dev/null 2>&1")

--- The HTML files below a folder, by path from there.
local function pages_below(folder, below, list)
    for name in lfs.dir(folder .. below) do
        local path = below .. name
        if name:find("%.html$") then
            list[#list + 1] = path
        elseif not name:find("^%.") and lfs.attributes(folder .. path, "mode") == "directory" then
            pages_below(folder, path .. "/", list)
        end
    end
    return list
end

--- A path without `.` and `..`.
local function plain(path)
    local parts = {}
    for part in path:gmatch("[^/]+") do
        if part == ".." then
            parts[#parts] = nil
        elseif part ~= "." then
            parts[#parts + 1] = part
        end
    end
    return table.concat(parts, "/")
end

local ids_of = {}

--- The ids in a page of the folder, and the names of its anchors.
local function ids(folder, path)
    local key = folder .. path
    if not ids_of[key] then
        ids_of[key] = {}
        for id in support.read(key):gmatch('%sid="([^"]*)"') do ids_of[key][id] = true end
    end
    return ids_of[key]
end

local function decoded(text)
    return (text:gsub("&amp;", "&"):gsub("&#39;", "'"):gsub("%%(%x%x)", function(digits)
        return string.char(tonumber(digits, 16))
    end))
end

--- What the page `path` of the folder refers to and cannot have: a list, and how many links it has.
local function dead(folder, path)
    local list, count, text = {}, 0, support.read(folder .. path)
    for tag in text:gmatch("<(%a[^>]*)>") do
        for kind, target in tag:gmatch('%s(%l+)="([^"]*)"') do
            local refers = kind == "href" or kind == "src"
            local elsewhere = target:find("^%a+:")
            if refers and elsewhere and not tag:find("^a ") then
                list[#list + 1] = ("%s asks for %s"):format(path, target)
            elseif refers and not elsewhere and target ~= "" then
                count = count + 1
                local file, anchor = target:match("^([^#?]*)[^#]*#?(.*)$")
                file = file == "" and path or plain((path:match("^.*/") or "") .. decoded(file))
                if path == "404.html" then
                    file = nil -- its links are from a server's root
                elseif lfs.attributes(folder .. file, "mode") == "directory" then
                    file = plain(file .. "/index.html")
                end
                if file and lfs.attributes(folder .. file, "mode") ~= "file" then
                    list[#list + 1] = ("%s: %s is not there"):format(path, target)
                elseif file and anchor ~= "" and not ids(folder, file)[decoded(anchor)] then
                    list[#list + 1] = ("%s: %s has no such anchor"):format(path, target)
                end
            end
        end
    end
    return list, count
end

describe("the site", function()
    local dir, html

    setup(function()
        dir = support.folder()
        html = dir .. "/site/html/"
        if there then
            local status, out, err = support.advrt {root .. "/packaging/site/build.lua", dir .. "/site"}
            assert(status == 0, err)
            assert.equal(("  %sindex.html\n"):format(html), out:match("[^\n]*\n$"))
        end
    end)
    teardown(function() support.remove(dir) end)

    local function may(name, test)
        it(name, function()
            if not there then pending("mkdocs is not installed: the site is left out") end
            test()
        end)
    end

    it("is left out in one clear line where there is no mkdocs", function()
        local status, out, err = support.advrt({root .. "/packaging/site/build.lua", dir .. "/none"},
            "PATH=" .. dir)
        assert.same({0, "the site is left out: mkdocs is not installed (Debian: apt-get install mkdocs "
            .. "mkdocs-material)\n", ""}, {status, out, err})
        assert.is_false(support.exists(dir .. "/none"))
    end)

    may("has every page, and a reference of every module", function()
        for name in lfs.dir(root .. "/docs") do
            local page = name:match("^(.*)%.md$")
            if page and page ~= "README" then
                assert(support.exists(html .. "docs/" .. page .. ".html"), page)
            end
        end
        for _, name in ipairs {"index", "docs/index", "CONTRIBUTING", "reference/index", "reference/tensor",
            "reference/attacks.cw"} do
            assert(support.exists(html .. name .. ".html"), name)
        end
        assert.truthy(ids(html, "reference/tensor.html")["tensor.stack"])
        local page = support.read(html .. "docs/first-experiment.html")
        assert.is_nil(page:find("```", 1, true))
        assert.truthy(page:find('class="highlight"', 1, true))
        page = support.read(html .. "docs/options.html")
        assert.truthy(page:find("<code>--norm 2|inf</code>", 1, true))
    end)

    may("has links and anchors that lead somewhere, and asks for nothing elsewhere", function()
        local all, count = {}, 0
        for _, path in ipairs(pages_below(html, "", {})) do
            local list, links = dead(html, path)
            count = count + links
            table.move(list, 1, #list, #all + 1, all)
        end
        assert.same({}, all)
        assert.is_true(count > 5000, count .. " links")
    end)

    it("is found to have dead links where it has", function()
        support.write(dir .. "/a.html", '<h1 id="one">x</h1><a href="#one">a</a> <a href="a.html#two">b</a> '
            .. '<img src="none.svg"> <a href="https://x.org/">c</a> <script src="https://x.org/y.js">')
        local list, count = dead(dir .. "/", "a.html")
        assert.same({"a.html: a.html#two has no such anchor", "a.html: none.svg is not there",
            "a.html asks for https://x.org/y.js"}, list)
        assert.equal(3, count)
    end)

    may("is searched and read on a phone, without a server", function()
        if not os.execute("command -v chromium >/dev/null 2>&1") then pending("chromium is not installed") end
        local browser = require "browser"
        local b <close> = browser.start()
        b:open(html .. "docs/install.html", {width = 1400, height = 900})
        assert.is_true(b:evaluate [[
            new Promise(done => {
                const input = document.querySelector("input.md-search__input");
                input.focus();
                input.value = "kappa";
                input.dispatchEvent(new Event("keyup", {bubbles: true}));
                const end = Date.now() + 10000;
                const look = () => {
                    const found = document.querySelectorAll(".md-search-result__link").length;
                    if (found > 0 || Date.now() > end) done(found > 0);
                    else setTimeout(look, 50);
                };
                look();
            })]])
        for _, name in ipairs {"index", "docs/options", "docs/layers", "docs/install", "reference/tensor",
            "reference/index"} do
            for _, dark in ipairs {false, true} do
                b:open(html .. name .. ".html", {width = 400, height = 800, dark = dark})
                assert.is_true(b:evaluate "document.documentElement.scrollWidth <= 400", name)
                assert.equal(dark and "slate" or "default",
                    b:evaluate "document.body.getAttribute('data-md-color-scheme')", name)
            end
        end
        assert.same({}, b.errors)
    end)
end)
