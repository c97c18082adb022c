"""The look of our pages: system fonts, one column that breathes, light and dark."""

from __future__ import annotations

from reverie.report.band import band_style
from reverie.report.charts import ARM_COLOURS, scheme_variables

__all__ = ["page_style", "study_style"]

_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);line-height:1.55;font-size:17px;
 font-family:-apple-system,BlinkMacSystemFont,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
 -webkit-font-smoothing:antialiased;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
main{max-width:1064px;margin:0 auto;padding:72px 32px 96px}
h1,h2,h3,p,figure,dl,dd,ol{margin:0;padding:0}
h1{font-size:clamp(27px,4.4vw,46px);line-height:1.16;letter-spacing:-.022em;font-weight:650;
 max-width:23em;text-wrap:balance;overflow-wrap:break-word}
h2{font-size:23px;line-height:1.25;letter-spacing:-.012em;font-weight:650;margin-bottom:6px}
h3{font-size:16px;font-weight:600;display:flex;align-items:center;gap:9px}
section{margin-top:72px}
.eyebrow{font-size:13px;letter-spacing:.09em;text-transform:uppercase;color:var(--soft);margin-bottom:18px}
.notes{margin-top:22px;max-width:44em;color:var(--soft)}
.notes p+p{margin-top:6px}
.lead{color:var(--soft);max-width:44em;margin-bottom:22px}
.swatch{width:11px;height:11px;border-radius:50%;background:currentColor;flex:none}
img{display:block;max-width:100%;height:auto;background:var(--line)}
.strip+.strip{margin-top:34px}
h3 .title{min-width:0}
.strip h3{margin-bottom:12px}
.strip h3 .figure{margin-left:auto;font-weight:400;font-size:15px;color:var(--soft);text-align:right;
 white-space:nowrap}
.strip h3 .figure b{font-weight:650}
.frames{list-style:none;display:grid;grid-template-columns:repeat(12,1fr);gap:12px 8px}
.frames li{font-size:12px;line-height:1.4;color:var(--soft);min-width:0}
.frames img,.frames .gone{width:100%;border-radius:5px;margin-bottom:4px}
.gone{background:var(--line);display:block}
table{border-collapse:collapse;width:100%;table-layout:fixed}
th,td{padding:13px 0 13px 20px;text-align:right;vertical-align:top;border-top:1px solid var(--line)}
thead td{border-top:0}
thead th{border-top:0;padding-top:0;font-size:15px;font-weight:600;line-height:1.35}
th:first-child,td:first-child{text-align:left;padding-left:0;width:56%}
tbody th{font-weight:600}
tbody th small{display:block;font-weight:400;font-size:14.5px;line-height:1.45;color:var(--soft);
 max-width:44em}
td{font-size:19px;white-space:nowrap}
.film img{width:100%;max-width:var(--film);border-radius:10px;background:#101013}
figcaption,.fine{font-size:14.5px;color:var(--soft);margin-top:12px;max-width:44em}
.chart{display:block;height:auto;overflow:visible}
.narrow{display:none}
.plot+.plot{margin-top:44px}
.plot h3{margin-bottom:2px}
.plot .lead{font-size:15.5px;margin-bottom:16px}
.injections{list-style:none;display:grid;grid-template-columns:repeat(3,1fr);gap:14px;margin-top:14px}
details{margin-top:14px}
summary{cursor:pointer;color:var(--soft);font-size:15px;padding:6px 0}
.block+.block{margin-top:36px}
details .block{margin-top:12px}
.injections li{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px;
 min-width:0}
.trio{display:grid;grid-template-columns:1fr 14px 1fr 14px 1fr;align-items:center;gap:6px;
 margin-bottom:10px}
.trio img,.trio .gone{width:100%;border-radius:6px}
.trio .towards{outline:2px solid var(--mark);outline-offset:2px}
.trio .never{background:none;border:1px dashed var(--line)}
.trio span{color:var(--soft);text-align:center;font-size:15px}
.trio em{font-style:normal;font-size:12.5px;line-height:1.35;color:var(--soft);align-self:start}
.injections p{font-size:15px;line-height:1.45}
.injections p.fact{font-weight:600;margin-bottom:2px}
.injections p.fact::first-letter,.reason::first-letter{text-transform:uppercase}
.fine.count{margin:0;font-weight:400}
.block .lead{font-size:15.5px;margin:2px 0 16px}
.state{flex:none;vertical-align:-1px;margin-right:10px}
.texture{stroke:var(--page);stroke-opacity:.5;fill:none}
.alarm{fill:var(--ink)}
.states{margin-top:22px}
.states td small,.states th small{display:block;font-weight:400;font-size:14.5px;line-height:1.45;
 color:var(--soft)}
.states td small{white-space:normal}
.changes{list-style:none;margin-top:10px}
.changes li{padding:9px 0;border-top:1px solid var(--line);font-size:15px}
.changes li:first-child{border-top:0}
.changes span{color:var(--soft);margin-left:6px}
.changes p{font-size:14.5px;line-height:1.45;color:var(--soft);padding-left:40px}
.changes p::first-letter{text-transform:uppercase}
.mosaic{list-style:none;display:grid;grid-template-columns:repeat(auto-fill,minmax(68px,1fr));gap:14px 12px}
.mosaic li{font-size:12px;line-height:1.4;color:var(--soft);min-width:0;white-space:nowrap;
 overflow:hidden;text-overflow:ellipsis;padding:4px 4px 0}
.mosaic div{position:relative;margin-bottom:5px}
.mosaic img,.mosaic .gone{width:100%;border-radius:5px}
.mosaic .pinned img,.mosaic .pinned .gone{outline:2px solid var(--mark);outline-offset:2px}
.mosaic i{font-style:normal}
.mosaic b{position:absolute;right:4px;bottom:4px;font-size:12px;line-height:1;font-weight:650;
 padding:3px 5px;border-radius:9px;background:rgba(10,10,13,.78);color:#fff}
.settings{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));
 gap:18px 24px;margin-top:22px}
.settings dt{font-size:13.5px;color:var(--soft)}
pre{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px;
 white-space:pre-wrap;overflow-wrap:anywhere;font-size:15px;line-height:1.5}
code span{display:inline-block;max-width:100%}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
footer{margin-top:72px;padding-top:20px;border-top:1px solid var(--line);font-size:14px;color:var(--soft)}
@media (max-width:900px){.injections{grid-template-columns:repeat(2,1fr)}}
@media (max-width:640px){
 body{font-size:16px}
 main{padding:40px 18px 64px}
 section{margin-top:52px}
 .frames{grid-template-columns:repeat(6,1fr);gap:9px 5px}
 .frames li{font-size:11px}
 .strip h3{flex-wrap:wrap}
 .strip h3 .title{flex:1}
 .strip h3 .figure{margin-left:20px;flex-basis:100%;text-align:left;margin-top:-6px;
  white-space:normal}
 th,td{padding-left:8px}
 th:first-child,td:first-child{width:52%}
 td{font-size:16px}
 thead th{font-size:13.5px;hyphens:auto}
 .many th:first-child,.many td:first-child{width:40%}
 .many thead th{font-size:12px}
 tbody th small{font-size:13.5px}
 .wide{display:none}
 .narrow{display:block}
 .injections{grid-template-columns:1fr}
 .states td small,.states th small{font-size:13.5px}
 .changes p{padding-left:31px}
 .state{width:24px;height:11px;margin-right:7px}
 .mosaic{grid-template-columns:repeat(6,1fr);gap:8px 3px}
 .mosaic li{font-size:11px}
 .mosaic i{display:none}
 .settings{grid-template-columns:repeat(2,1fr)}
}
@media print{body{font-size:11pt}section,.injections li{break-inside:avoid}}
"""


_STUDY_RULES = """
a{color:inherit}
.toc{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:10px 28px;margin-top:22px}
.toc p{display:flex;align-items:center;gap:6px;font-size:14.5px}
.toc span{flex:1;font-weight:600}
.toc a{min-width:34px;text-align:center;text-decoration:none;border:1px solid var(--line);
 background:var(--card);border-radius:8px;padding:5px 6px}
.toc a:hover{border-color:var(--soft)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:28px 20px;margin-top:18px}
.pair .plot+.plot{margin-top:0}
.scroll{overflow-x:auto;margin-top:26px;-webkit-overflow-scrolling:touch}
.scroll table{table-layout:auto;width:100%;min-width:max-content}
.scroll th,.scroll td,.scroll th:first-child,.scroll td:first-child{width:auto;font-size:14.5px;
 line-height:1.4;padding:8px 0 8px 13px;vertical-align:baseline;white-space:nowrap}
.scroll thead th{font-size:13px;font-weight:400;color:var(--soft);white-space:normal;
 vertical-align:bottom;max-width:7em;overflow-wrap:normal}
.scroll th:first-child,.scroll td:first-child{padding:8px 6px 8px 0;position:sticky;left:0;
 background:var(--page);z-index:1}
.scroll td small{display:block;color:var(--soft);font-size:12px;line-height:1.35}
.scroll .checks{width:auto}
.scroll .checks td,.scroll .checks thead th{padding-left:22px}
.scroll .checks th:first-child{max-width:17em;white-space:normal;min-width:9.5em}
.word{position:absolute;clip-path:inset(50%);width:1px;height:1px;overflow:hidden}
.met::before,.missed::before{display:inline-block;width:1.25em;text-align:left;font-weight:650}
.met::before{content:"\\2713";color:var(--arm2)}
.missed::before{content:"\\2717";color:var(--arm0)}
.scroll .missed{color:var(--arm0);font-weight:650}
.sheet{min-width:100%;width:100%}
.sheet .row{display:grid;grid-template-columns:168px 1fr;align-items:center;margin-top:9px}
.sheet .row b{display:block;font-size:15px;line-height:1.25;font-weight:600}
.sheet .row small{display:block;font-size:12.5px;line-height:1.35;color:var(--soft)}
.sheet .axis{display:grid;grid-auto-flow:column;grid-auto-columns:1fr;font-size:12px;color:var(--soft)}
.sheet .axis span{white-space:nowrap;width:0}
.sheet img,.sheet .gone{width:100%;border-radius:4px}
.sheet img{background:none;-webkit-mask:linear-gradient(90deg,#000 94%,#0000 0) 0/calc(100%/var(--n)) 100%;
 mask:linear-gradient(90deg,#000 94%,#0000 0) 0/calc(100%/var(--n)) 100%}
.arms{margin-top:26px;display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:14px 28px}
.arms dt{font-weight:600}.arms dd{color:var(--soft);font-size:15px;line-height:1.45}
.terms{display:grid;grid-template-columns:11em 1fr;gap:10px 24px;max-width:52em}
.terms dt{font-weight:600}.terms dd{color:var(--soft)}
section.group{border-top:1px solid var(--line);padding-top:34px;margin-top:60px}
@media (max-width:640px){
 .pair{grid-template-columns:1fr}
 .sheet{width:860px}
 .sheet .row{display:block;margin-top:12px}
 .sheet .row>div:first-child{position:sticky;left:0;width:max-content;max-width:calc(100vw - 36px);
  display:flex;gap:8px;align-items:baseline;margin-bottom:4px}
 .scroll .checks{width:100%}
 .terms{grid-template-columns:1fr;gap:2px}.terms dd{margin-bottom:12px}
}
@media print{.scroll{overflow:visible}}
"""


def page_style() -> str:
    """The style sheet of a run's report, with the colours of both schemes as CSS variables."""
    arms = "".join(f".arm{slot}{{color:var(--arm{slot})}}" for slot in range(len(ARM_COLOURS)))
    return (
        f":root{{color-scheme:light dark;{scheme_variables(dark=False)}}}{band_style(dark=False)}"
        f"@media (prefers-color-scheme:dark){{:root{{{scheme_variables(dark=True)}}}{band_style(dark=True)}}}"
        f"{_RULES}{arms}"
    )


def study_style() -> str:
    """The style sheet of a study's page."""
    return page_style() + _STUDY_RULES
