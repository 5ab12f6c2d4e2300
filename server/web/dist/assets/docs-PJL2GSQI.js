document.title+="";
