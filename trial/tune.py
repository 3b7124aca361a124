import sys; sys.path.insert(0,'/tmp/w'); sys.argv=['x']
from ml import *
from morphot_jax.transport import hierarchy as H, sinkhorn as S, anderson as A
import itertools
cases={}
with jax.enable_x64(True):
    for n in ('mmcpn-real','adk-linear','spike','spliceosome'):
        c=build_case(n); m=prepare_maps([c.first,c.last]); pair=np.stack([v.data.astype(float) for v in m.volumes])
        inner=bounding_box(pair.sum(0)>0); maps=pair[(slice(None),*inner)]
        k=kernels.heat(maps.shape[1:],64/60); cases[n]=Problem(side_of(maps[0]),side_of(maps[1]),k)
    base=dict(SPACING=2.8,SHARE=.1,CELLS=1.4,EMPTY=1e-3,LIMIT=2.0,DEPTH=5,OMEGA=1.0)
    def trial(tol=1e-6,**kw):
        p={**base,**kw}
        H.SPACING,H.SHARE,H.CELLS,H.EMPTY=p['SPACING'],p['SHARE'],p['CELLS'],p['EMPTY']; S.LIMIT,S.DEPTH,S.OMEGA=p['LIMIT'],p['DEPTH'],p['OMEGA']
        jax.clear_caches()
        out=[]
        for n,P in cases.items():
            s=loop.solve(MultilevelSinkhorn(False),P,Options(tol,AUTOMATIC,300)); out.append(int(s.iterations))
        print(kw,out,sum(out),flush=True)
    for kw in KW: trial(**kw)
